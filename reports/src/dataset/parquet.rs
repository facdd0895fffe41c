//! Rows as a Parquet file, column by column. Invariant: the same rows give the same bytes.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError as Inner;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use serde_json::Value;

use super::columns::{COLUMNS, Column, Kind};
use super::{DATASET_VERSION, Row};

/// Rows whose columns are written at once.
const GROUP: usize = 50_000;

/// Why rows could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ParquetError {
    /// The writer, or what it writes to, refused.
    #[error("the Parquet file could not be written: {0}")]
    Written(#[from] Inner),
    /// A row that its own table of columns does not describe.
    #[error("row {row}: column {column} holds {got}")]
    Column {
        /// The row.
        row: u64,
        /// The column.
        column: &'static str,
        /// The JSON that it holds.
        got: String,
    },
    /// A row has no JSON.
    #[error("a row could not be read: {0}")]
    Json(#[from] serde_json::Error),
}

/// Writes rows as one Parquet file.
///
/// # Errors
/// If the sink fails.
pub fn write_parquet(rows: &[Row], sink: impl Write + Send) -> Result<(), ParquetError> {
    let schema = Arc::new(parse_message_type(&schema())?);
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(format!("bitnet-certify dataset {DATASET_VERSION}"))
        .build();
    let mut file = SerializedFileWriter::new(sink, schema, Arc::new(properties))?;
    for rows in rows.chunks(GROUP) {
        let values: Vec<Value> = rows.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
        let mut group = file.next_row_group()?;
        for column in &COLUMNS {
            let mut writer = group.next_column()?.expect("a column of the schema");
            let cells = rows.iter().zip(&values).map(|(row, value)| (row.row, &value[column.name]));
            let cells: Vec<(u64, &Value)> = cells.collect();
            write(&mut writer, *column, &cells)?;
            writer.close()?;
        }
        group.close()?;
    }
    file.close()?;
    Ok(())
}

/// The columns in Parquet's own words; lists in their three standard levels.
fn schema() -> String {
    let column = |column: &Column| {
        let name = column.name;
        let times = if column.null { "OPTIONAL" } else { "REQUIRED" };
        match column.kind {
            Kind::Text => format!("{times} BYTE_ARRAY {name} (UTF8);"),
            Kind::Count => format!("{times} INT64 {name};"),
            Kind::Number => format!("{times} DOUBLE {name};"),
            Kind::Flag => format!("{times} BOOLEAN {name};"),
            Kind::Texts => list(name, "BYTE_ARRAY element (UTF8)"),
            Kind::Counts => list(name, "INT64 element"),
        }
    };
    let columns: Vec<String> = COLUMNS.iter().map(column).collect();
    format!("message perturbation {{ {} }}", columns.join(" "))
}

fn list(name: &str, element: &str) -> String {
    format!("REQUIRED GROUP {name} (LIST) {{ REPEATED GROUP list {{ REQUIRED {element}; }} }}")
}

/// Values without their nulls, with the levels that say where those were, or where lists begin.
struct Cells<T> {
    values: Vec<T>,
    definition: Vec<i16>,
    repetition: Vec<i16>,
}

fn write(
    writer: &mut SerializedColumnWriter,
    column: Column,
    cells: &[(u64, &Value)],
) -> Result<(), ParquetError> {
    let text = |value: &Value| value.as_str().map(ByteArray::from);
    let count = |value: &Value| value.as_u64().and_then(|count| i64::try_from(count).ok());
    match writer.untyped() {
        ColumnWriter::ByteArrayColumnWriter(writer) => {
            let Cells { values, definition, repetition } = levels(column, cells, text)?;
            writer.write_batch(&values, Some(&definition), Some(&repetition))?;
        }
        ColumnWriter::Int64ColumnWriter(writer) => {
            let Cells { values, definition, repetition } = levels(column, cells, count)?;
            writer.write_batch(&values, Some(&definition), Some(&repetition))?;
        }
        ColumnWriter::DoubleColumnWriter(writer) => {
            let Cells { values, definition, repetition } = levels(column, cells, Value::as_f64)?;
            writer.write_batch(&values, Some(&definition), Some(&repetition))?;
        }
        ColumnWriter::BoolColumnWriter(writer) => {
            let Cells { values, definition, repetition } = levels(column, cells, Value::as_bool)?;
            writer.write_batch(&values, Some(&definition), Some(&repetition))?;
        }
        _ => unreachable!("the schema has no other types"),
    };
    Ok(())
}

fn levels<T>(
    column: Column,
    cells: &[(u64, &Value)],
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Cells<T>, ParquetError> {
    let mut out = Cells { values: Vec::new(), definition: Vec::new(), repetition: Vec::new() };
    for &(row, cell) in cells {
        let wrong = || ParquetError::Column { row, column: column.name, got: cell.to_string() };
        match column.kind {
            Kind::Texts | Kind::Counts => {
                let list = cell.as_array().ok_or_else(wrong)?;
                if list.is_empty() {
                    out.definition.push(0);
                    out.repetition.push(0);
                }
                for (index, value) in list.iter().enumerate() {
                    out.values.push(read(value).ok_or_else(wrong)?);
                    out.definition.push(1);
                    out.repetition.push(i16::from(index > 0));
                }
            }
            _ if cell.is_null() && column.null => {
                out.definition.push(0);
                out.repetition.push(0);
            }
            _ => {
                out.values.push(read(cell).ok_or_else(wrong)?);
                out.definition.push(i16::from(column.null));
                out.repetition.push(0);
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;

    use super::super::tests::row;
    use super::*;

    fn json(field: &Field) -> Value {
        match field {
            Field::Null => Value::Null,
            Field::Bool(x) => (*x).into(),
            Field::Long(x) => (*x).into(),
            Field::Double(x) => (*x).into(),
            Field::Str(x) => x.as_str().into(),
            Field::ListInternal(list) => list.elements().iter().map(json).collect(),
            other => panic!("a field that no column has: {other:?}"),
        }
    }

    #[test]
    fn a_file_reads_back_as_the_json_of_its_rows() {
        let mut rows: Vec<Row> = (0..7).map(row).collect();
        rows[2].old_codes = Vec::new();
        rows[3].margin_after = None;
        rows[4].transfer_model = Some("other".into());
        let mut bytes = Vec::new();
        write_parquet(&rows, &mut bytes).expect("written");
        let mut again = Vec::new();
        write_parquet(&rows, &mut again).expect("written");
        assert_eq!(bytes, again);
        let reader = SerializedFileReader::new(::bytes::Bytes::from(bytes)).expect("a file");
        let back = reader.get_row_iter(None).expect("rows").map(|row| row.expect("a row"));
        let back: Vec<Value> = back
            .map(|row| row.get_column_iter().map(|(name, x)| (name.clone(), json(x))).collect())
            .collect();
        assert_eq!(back.len(), rows.len());
        for (row, back) in rows.iter().zip(&back) {
            assert_eq!(&serde_json::to_value(row).expect("json"), back);
        }
    }

    #[test]
    fn columns_are_those_of_a_row() {
        let json = serde_json::to_value(row(0)).expect("json");
        let mut names: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
        names.sort_unstable();
        let keys: Vec<&String> = json.as_object().expect("an object").keys().collect();
        assert_eq!(keys, names);
    }
}

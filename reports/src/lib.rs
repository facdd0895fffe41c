//! How it is told: the report contract and its faces.

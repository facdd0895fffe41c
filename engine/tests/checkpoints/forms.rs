//! Every form in which the same weights may be stored loads as the same model.

//! The command line of bitnet-certify.

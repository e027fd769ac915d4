//! Why a file cannot be read as a stream's ticks. Bad rows are no errors: they are
//! [`Rejected`](isotick_model::Rejected).

use std::path::PathBuf;

/// Why a file cannot be read as a stream's ticks.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Opening or reading failed.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system, or the decompressor, said.
        source: std::io::Error,
    },
    /// A compressed file is cut off or damaged.
    #[error(
        "cannot read {}: it is cut off or damaged near byte {offset} of the file{}{behind}: \
         {source}; get it anew from its origin",
        path.display(), if behind.is_empty() { "" } else { ", " }
    )]
    Compressed {
        /// The file.
        path: PathBuf,
        /// How many of its bytes were taken in.
        offset: u64,
        /// What was read before, in words; empty for nothing.
        behind: String,
        /// What the decompressor said.
        source: std::io::Error,
    },
    /// Neither the name nor the first bytes tell a known format.
    #[error(
        "{} is no Parquet, CSV, TSV or DBN file that can be recognised ({found}); these are read, \
         the last three also compressed with gzip or zstd",
        path.display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What its first bytes look like.
        found: &'static str,
    },
    /// The Parquet reader refused the file.
    #[error("{} is no readable Parquet file: {source}; write it anew at its origin", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        source: parquet::errors::ParquetError,
    },
    /// The Parquet reader stopped on bytes it did not expect.
    #[error("{} is a damaged Parquet file: {message}; write it anew at its origin", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the reader stopped at.
        message: String,
    },
    /// The bytes are not what DBN has there.
    #[error("{} is no readable DBN file: at byte {offset} of {of}: {what}", path.display())]
    Dbn {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What the offset counts bytes of.
        of: &'static str,
        /// What is wrong there.
        what: String,
    },
    /// A DBN file holds what is no ticks.
    #[error("{} holds {found}, which are no ticks: of DBN {readable} can be read", path.display())]
    DbnSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: String,
        /// The schemas that can be read.
        readable: &'static str,
    },
    /// The text has no header.
    #[error("{} has no header line that names its fields", path.display())]
    NoHeader {
        /// The file.
        path: PathBuf,
    },
    /// The header is not UTF-8 text.
    #[error("{}: the header line is not UTF-8 text; save the file as UTF-8", path.display())]
    HeaderNotText {
        /// The file.
        path: PathBuf,
    },
    /// A declared column has no field in the file.
    #[error(
        "{}: no field {field:?} for column {column:?}; the file has: {}. Name the right one with \
         --map {column}=FIELD",
        path.display(), fields.join(", ")
    )]
    MissingField {
        /// The file.
        path: PathBuf,
        /// The declared column.
        column: String,
        /// The field that was looked for.
        field: String,
        /// The fields there are.
        fields: Vec<String>,
    },
    /// A field that is needed stands in the file more than once.
    #[error(
        "{}: the field {field:?} stands in the file more than once; rename one of them",
        path.display()
    )]
    RepeatedField {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
    },
    /// `--map` names a column that the stream does not have.
    #[error(
        "--map {column}={field}: the stream {stream} declares no column {column:?}; it has: {}",
        columns.join(", ")
    )]
    MapUnknown {
        /// The left side of the map.
        column: String,
        /// The right side of the map.
        field: String,
        /// The stream.
        stream: String,
        /// Its columns.
        columns: Vec<String>,
    },
    /// `--map` names one column twice.
    #[error("--map {column}=… is given more than once; keep one")]
    MapRepeated {
        /// The column.
        column: String,
    },
    /// A field's type cannot become what the column is.
    #[error(
        "{}: field {field:?} has type {data_type}, which cannot be read as {purpose}; map another \
         field to it or convert the file",
        path.display()
    )]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// Its type.
        data_type: String,
        /// What it was wanted for, e.g. `the value column "price"`.
        purpose: String,
    },
    /// The file's metadata state a scale that is none.
    #[error(
        "{}: the metadata state the scale {text:?} for field {field:?}; a scale is a whole number \
         from 0 to 18",
        path.display()
    )]
    BadScale {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// What the metadata say.
        text: String,
    },
    /// Nothing in the file can be the event time.
    #[error(
        "{}: none of its fields looks like a time; it has: {}. Write the stream's definition by hand",
        path.display(), fields.join(", ")
    )]
    NoTime {
        /// The file.
        path: PathBuf,
        /// The fields there are.
        fields: Vec<String>,
    },
}

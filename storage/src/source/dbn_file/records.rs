//! Which fields the records of a DBN schema have, and where.
//!
//! Records of versions 1 to 3 have the same form for all of these; what follows a record's own
//! fields (the time at which it was sent) is left alone.

use std::mem::{offset_of, size_of};

use arrow_schema::DataType;
use dbn::{
    BboMsg, BidAskPair, CbboMsg, Cmbp1Msg, ConsolidatedBidAskPair, MboMsg, Mbp1Msg, Mbp10Msg,
    OhlcvMsg, RType, RecordHeader, Schema, TradeMsg, rtype,
};

/// What stands in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nanoseconds since the epoch, 64 bits; all ones are null.
    Time,
    /// A price in units of 1e-9; the greatest is null.
    Price,
    /// An order's size, 32 bits; all ones are null.
    Size,
    U64,
    U32,
    U16,
    U8,
    I32,
    /// One letter.
    Letter,
    /// The symbol that the file maps to the record's instrument.
    Symbol,
}

impl Kind {
    /// The type of a column of such fields.
    pub(super) fn data_type(self) -> DataType {
        match self {
            Self::Time | Self::U64 => DataType::UInt64,
            Self::Price => DataType::Int64,
            Self::Size | Self::U32 => DataType::UInt32,
            Self::U16 => DataType::UInt16,
            Self::U8 => DataType::UInt8,
            Self::I32 => DataType::Int32,
            Self::Letter => DataType::Utf8,
            Self::Symbol => DataType::Dictionary(DataType::Int32.into(), DataType::Utf8.into()),
        }
    }
}

/// A field of a record.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: String,
    /// Bytes from the start of the record; nothing for the symbol.
    pub(super) at: usize,
    pub(super) kind: Kind,
}

/// What the rows of a file are.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// How the schema is called.
    pub(super) name: &'static str,
    /// The types of its records.
    types: &'static [u8],
    /// Bytes of a record.
    pub(super) len: usize,
    /// Where the time stands by which the symbol is looked up.
    pub(super) index_at: usize,
    /// In the order in which DBN's own text form has them.
    pub(super) fields: Vec<Field>,
}

/// Schemas that can be read, for messages.
pub(super) const READ: &str =
    "trades, tbbo, mbp-1, mbp-10, mbo, bbo-1s, bbo-1m, cmbp-1, tcbbo, cbbo-1s, cbbo-1m and ohlcv";

/// Records that are about the file or the connection, and no rows.
pub(super) fn is_control(record_type: u8) -> bool {
    matches!(record_type, rtype::SYMBOL_MAPPING | rtype::SYSTEM | rtype::ERROR)
}

macro_rules! at {
    ($record:ty, $($field:ident).+) => {
        offset_of!($record, $($field).+)
    };
}

impl Layout {
    /// The rows of a schema; `None` where its records are no ticks.
    pub(super) fn of(schema: Schema) -> Option<Self> {
        let kind = RType::from(schema);
        let mut layout = Self::of_type(kind as u8)?;
        layout.name = schema.as_str();
        Some(layout)
    }

    /// The rows that records of this type are.
    pub(super) fn of_type(record_type: u8) -> Option<Self> {
        use Kind::{I32, Letter, Price, Size, Time, U8, U16, U32, U64};
        let layout = match record_type {
            rtype::MBP_0 => Self::new::<TradeMsg>("trades", &[rtype::MBP_0])
                .received(at!(TradeMsg, ts_recv))
                .trade([
                    (at!(TradeMsg, action), "action", Letter),
                    (at!(TradeMsg, side), "side", Letter),
                    (at!(TradeMsg, depth), "depth", U8),
                    (at!(TradeMsg, price), "price", Price),
                    (at!(TradeMsg, size), "size", Size),
                    (at!(TradeMsg, flags), "flags", U8),
                    (at!(TradeMsg, ts_in_delta), "ts_in_delta", I32),
                    (at!(TradeMsg, sequence), "sequence", U32),
                ]),
            rtype::MBP_1 => Self::new::<Mbp1Msg>("mbp-1", &[rtype::MBP_1])
                .received(at!(Mbp1Msg, ts_recv))
                .trade([
                    (at!(Mbp1Msg, action), "action", Letter),
                    (at!(Mbp1Msg, side), "side", Letter),
                    (at!(Mbp1Msg, depth), "depth", U8),
                    (at!(Mbp1Msg, price), "price", Price),
                    (at!(Mbp1Msg, size), "size", Size),
                    (at!(Mbp1Msg, flags), "flags", U8),
                    (at!(Mbp1Msg, ts_in_delta), "ts_in_delta", I32),
                    (at!(Mbp1Msg, sequence), "sequence", U32),
                ])
                .levels(at!(Mbp1Msg, levels), 1),
            rtype::MBP_10 => Self::new::<Mbp10Msg>("mbp-10", &[rtype::MBP_10])
                .received(at!(Mbp10Msg, ts_recv))
                .trade([
                    (at!(Mbp10Msg, action), "action", Letter),
                    (at!(Mbp10Msg, side), "side", Letter),
                    (at!(Mbp10Msg, depth), "depth", U8),
                    (at!(Mbp10Msg, price), "price", Price),
                    (at!(Mbp10Msg, size), "size", Size),
                    (at!(Mbp10Msg, flags), "flags", U8),
                    (at!(Mbp10Msg, ts_in_delta), "ts_in_delta", I32),
                    (at!(Mbp10Msg, sequence), "sequence", U32),
                ])
                .levels(at!(Mbp10Msg, levels), 10),
            rtype::MBO => {
                Self::new::<MboMsg>("mbo", &[rtype::MBO]).received(at!(MboMsg, ts_recv)).trade([
                    (at!(MboMsg, action), "action", Letter),
                    (at!(MboMsg, side), "side", Letter),
                    (at!(MboMsg, price), "price", Price),
                    (at!(MboMsg, size), "size", Size),
                    (at!(MboMsg, channel_id), "channel_id", U8),
                    (at!(MboMsg, order_id), "order_id", U64),
                    (at!(MboMsg, flags), "flags", U8),
                    (at!(MboMsg, ts_in_delta), "ts_in_delta", I32),
                    (at!(MboMsg, sequence), "sequence", U32),
                ])
            }
            rtype::BBO_1S | rtype::BBO_1M => {
                Self::new::<BboMsg>("bbo", &[rtype::BBO_1S, rtype::BBO_1M])
                    .received(at!(BboMsg, ts_recv))
                    .trade([
                        (at!(BboMsg, side), "side", Letter),
                        (at!(BboMsg, price), "price", Price),
                        (at!(BboMsg, size), "size", Size),
                        (at!(BboMsg, flags), "flags", U8),
                        (at!(BboMsg, sequence), "sequence", U32),
                    ])
                    .levels(at!(BboMsg, levels), 1)
            }
            rtype::CMBP_1 | rtype::TCBBO => {
                Self::new::<Cmbp1Msg>("cmbp-1", &[rtype::CMBP_1, rtype::TCBBO])
                    .received(at!(Cmbp1Msg, ts_recv))
                    .trade([
                        (at!(Cmbp1Msg, action), "action", Letter),
                        (at!(Cmbp1Msg, side), "side", Letter),
                        (at!(Cmbp1Msg, price), "price", Price),
                        (at!(Cmbp1Msg, size), "size", Size),
                        (at!(Cmbp1Msg, flags), "flags", U8),
                        (at!(Cmbp1Msg, ts_in_delta), "ts_in_delta", I32),
                    ])
                    .consolidated(at!(Cmbp1Msg, levels))
            }
            rtype::CBBO_1S | rtype::CBBO_1M => {
                Self::new::<CbboMsg>("cbbo", &[rtype::CBBO_1S, rtype::CBBO_1M])
                    .received(at!(CbboMsg, ts_recv))
                    .trade([
                        (at!(CbboMsg, side), "side", Letter),
                        (at!(CbboMsg, price), "price", Price),
                        (at!(CbboMsg, size), "size", Size),
                        (at!(CbboMsg, flags), "flags", U8),
                    ])
                    .consolidated(at!(CbboMsg, levels))
            }
            rtype::OHLCV_1S
            | rtype::OHLCV_1M
            | rtype::OHLCV_1H
            | rtype::OHLCV_1D
            | rtype::OHLCV_EOD
            | rtype::OHLCV_DEPRECATED => Self::new::<OhlcvMsg>("ohlcv", bars(record_type)).trade([
                (at!(OhlcvMsg, open), "open", Price),
                (at!(OhlcvMsg, high), "high", Price),
                (at!(OhlcvMsg, low), "low", Price),
                (at!(OhlcvMsg, close), "close", Price),
                (at!(OhlcvMsg, volume), "volume", U64),
            ]),
            _ => return None,
        };
        let header = [
            (at!(RecordHeader, ts_event), "ts_event", Time),
            (at!(RecordHeader, rtype), "rtype", U8),
            (at!(RecordHeader, publisher_id), "publisher_id", U16),
            (at!(RecordHeader, instrument_id), "instrument_id", U32),
        ];
        let place = usize::from(layout.index_at != at!(RecordHeader, ts_event));
        let mut fields = layout.fields.clone();
        fields.splice(place..place, header.map(field));
        fields.push(field((0, "symbol", Kind::Symbol)));
        Some(Self { fields, ..layout })
    }

    /// Whether a record of this type is a row.
    pub(super) fn has(&self, record_type: u8) -> bool {
        self.types.contains(&record_type)
    }

    fn new<T>(name: &'static str, types: &'static [u8]) -> Self {
        let index_at = at!(RecordHeader, ts_event);
        Self { name, types, len: size_of::<T>(), index_at, fields: Vec::new() }
    }

    fn received(mut self, at: usize) -> Self {
        self.index_at = at;
        self.fields.push(field((at, "ts_recv", Kind::Time)));
        self
    }

    fn trade<const N: usize>(mut self, fields: [(usize, &str, Kind); N]) -> Self {
        self.fields.extend(fields.map(field));
        self
    }

    /// The levels of a book, the best first.
    fn levels(mut self, at: usize, count: usize) -> Self {
        let parts = [
            (at!(BidAskPair, bid_px), "bid_px", Kind::Price),
            (at!(BidAskPair, ask_px), "ask_px", Kind::Price),
            (at!(BidAskPair, bid_sz), "bid_sz", Kind::U32),
            (at!(BidAskPair, ask_sz), "ask_sz", Kind::U32),
            (at!(BidAskPair, bid_ct), "bid_ct", Kind::U32),
            (at!(BidAskPair, ask_ct), "ask_ct", Kind::U32),
        ];
        for level in 0..count {
            let start = at + level * size_of::<BidAskPair>();
            self.fields.extend(parts.map(|(at, name, kind)| Field {
                name: format!("{name}_{level:02}"),
                at: start + at,
                kind,
            }));
        }
        self
    }

    /// The best level of several books, with the publishers that have it.
    fn consolidated(self, at: usize) -> Self {
        self.trade([
            (at + at!(ConsolidatedBidAskPair, bid_px), "bid_px_00", Kind::Price),
            (at + at!(ConsolidatedBidAskPair, ask_px), "ask_px_00", Kind::Price),
            (at + at!(ConsolidatedBidAskPair, bid_sz), "bid_sz_00", Kind::U32),
            (at + at!(ConsolidatedBidAskPair, ask_sz), "ask_sz_00", Kind::U32),
            (at + at!(ConsolidatedBidAskPair, bid_pb), "bid_pb_00", Kind::U16),
            (at + at!(ConsolidatedBidAskPair, ask_pb), "ask_pb_00", Kind::U16),
        ])
    }
}

/// Bars of one width only: those of another would be ticks of another meaning.
fn bars(record_type: u8) -> &'static [u8] {
    match record_type {
        rtype::OHLCV_1S => &[rtype::OHLCV_1S, rtype::OHLCV_DEPRECATED],
        rtype::OHLCV_1M => &[rtype::OHLCV_1M, rtype::OHLCV_DEPRECATED],
        rtype::OHLCV_1H => &[rtype::OHLCV_1H, rtype::OHLCV_DEPRECATED],
        rtype::OHLCV_1D => &[rtype::OHLCV_1D, rtype::OHLCV_DEPRECATED],
        rtype::OHLCV_EOD => &[rtype::OHLCV_EOD, rtype::OHLCV_DEPRECATED],
        _ => &[rtype::OHLCV_DEPRECATED],
    }
}

fn field((at, name, kind): (usize, &str, Kind)) -> Field {
    Field { name: name.to_owned(), at, kind }
}

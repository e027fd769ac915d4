//! Which symbol an instrument has, by the file's metadata and by the mappings among its records.

use std::collections::HashMap;
use std::mem::{offset_of, size_of};
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, DictionaryArray, Int32Array, StringArray};
use dbn::{Metadata, SymbolMappingMsg, TsSymbolMap, v1};

/// Symbols by instrument and time.
pub(super) struct Symbols {
    map: TsSymbolMap,
    /// Symbols that were met.
    texts: Vec<String>,
    codes: HashMap<String, i32>,
    /// The code that an instrument had last.
    last: HashMap<u32, i32>,
    /// `texts` as an array, as long as none is added.
    array: Option<ArrayRef>,
}

impl Symbols {
    /// The mappings of a file's metadata; `None` where it maps nothing to instrument numbers.
    pub(super) fn of(metadata: &Metadata) -> Option<Self> {
        let map = metadata.symbol_map().ok()?;
        Some(Self {
            map,
            texts: Vec::new(),
            codes: HashMap::new(),
            last: HashMap::new(),
            array: None,
        })
    }

    /// Takes in a record that maps an instrument from some time on. One that makes no sense maps
    /// nothing.
    pub(super) fn learn(&mut self, record: &[u8]) {
        let (symbol, start, end): (Range<usize>, usize, usize) = match record.len() {
            len if len >= size_of::<SymbolMappingMsg>() => (
                offset_of!(SymbolMappingMsg, stype_out_symbol)
                    ..offset_of!(SymbolMappingMsg, start_ts),
                offset_of!(SymbolMappingMsg, start_ts),
                offset_of!(SymbolMappingMsg, end_ts),
            ),
            len if len >= size_of::<v1::SymbolMappingMsg>() => (
                offset_of!(v1::SymbolMappingMsg, stype_out_symbol)
                    ..offset_of!(v1::SymbolMappingMsg, stype_out_symbol) + dbn::v1::SYMBOL_CSTR_LEN,
                offset_of!(v1::SymbolMappingMsg, start_ts),
                offset_of!(v1::SymbolMappingMsg, end_ts),
            ),
            _ => return,
        };
        let symbol = record[symbol].split(|&byte| byte == 0).next().unwrap_or_default();
        let Ok(symbol) = std::str::from_utf8(symbol) else { return };
        // Without a start it holds from the beginning, without an end for ever.
        let start = Some(u64_at(record, start)).filter(|&start| start != u64::MAX).unwrap_or(0);
        if !symbol.is_empty() {
            let _ = self.map.insert(instrument_of(record), start, u64_at(record, end), symbol);
        }
    }

    /// The code of an instrument's symbol at a time.
    pub(super) fn code(&mut self, instrument: u32, ts: u64) -> Option<i32> {
        let symbol = self.map.get_for_ts(ts, instrument)?;
        let known = self.last.get(&instrument).copied();
        if let Some(code) = known.filter(|&code| self.texts[code as usize] == *symbol) {
            return Some(code);
        }
        let code = match self.codes.get(symbol) {
            Some(&code) => code,
            None => {
                let code = i32::try_from(self.texts.len()).ok()?;
                self.texts.push(symbol.clone());
                self.codes.insert(symbol.clone(), code);
                self.array = None;
                code
            }
        };
        self.last.insert(instrument, code);
        Some(code)
    }

    /// Codes as a column of symbols.
    pub(super) fn column(&mut self, codes: Int32Array) -> ArrayRef {
        let texts =
            self.array.get_or_insert_with(|| Arc::new(StringArray::from(self.texts.clone())));
        let column = DictionaryArray::try_new(codes, texts.clone());
        Arc::new(column.expect("every code has its text"))
    }
}

/// The instrument of a record.
pub(super) fn instrument_of(record: &[u8]) -> u32 {
    let at = offset_of!(dbn::RecordHeader, instrument_id);
    u32::from_le_bytes(record[at..at + 4].try_into().expect("four bytes"))
}

/// The 64 bits at a place of a record.
pub(super) fn u64_at(record: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(record[at..at + 8].try_into().expect("eight bytes"))
}

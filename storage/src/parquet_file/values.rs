//! What the pages of a column hold, made of their bytes: numbers, or codes of texts. `None` is for
//! bytes that are none.

use std::iter;
use std::sync::Arc;

use arrow_array::{ArrayRef, StringArray};
use arrow_buffer::{ArrowNativeType, NullBuffer, NullBufferBuilder, ScalarBuffer};
use bytes::Bytes;
use parquet::basic::Encoding;

use super::decode::{self, Deltas, Hybrid, Run};
use super::inflate::PageBytes;

/// What a column's values are made into.
pub(crate) trait Coding {
    type Item: ArrowNativeType;

    /// Bits of a delta, at most; `None` where there may be none.
    const DELTA_BITS: Option<u32>;

    /// Bytes of a value that stands as it is; `None` where none may.
    fn plain_bytes(&self) -> Option<usize>;

    /// Appends values that stand as they are.
    fn plain(&self, bytes: &[u8], out: &mut Vec<Self::Item>);

    /// Appends those of such values that are wanted; `bytes` are of all of them.
    fn plain_at(&self, bytes: &[u8], wanted: Wanted<'_>, out: &mut Vec<Self::Item>);

    /// Appends values that are stored as deltas.
    fn deltas(
        deltas: &mut Deltas,
        page: &[u8],
        count: usize,
        out: &mut Vec<Self::Item>,
    ) -> Option<()>;

    /// Takes in a dictionary of so many entries.
    fn take_dictionary(&mut self, bytes: &[u8], entries: usize) -> Option<()>;

    /// Appends an entry, so many times.
    fn repeat(&self, index: u32, count: usize, out: &mut Vec<Self::Item>) -> Option<()>;

    /// Appends entries.
    fn look_up(&self, indices: &[u32], out: &mut Vec<Self::Item>) -> Option<()>;
}

/// Numbers, or floats by their bits.
#[derive(Default)]
pub(crate) struct Numbers<T> {
    dictionary: Vec<T>,
}

macro_rules! numbers {
    ($word:ty, $deltas:expr) => {
        impl Coding for Numbers<$word> {
            type Item = $word;

            const DELTA_BITS: Option<u32> = Some(<$word>::BITS);

            fn plain_bytes(&self) -> Option<usize> {
                Some(size_of::<$word>())
            }

            fn plain(&self, bytes: &[u8], out: &mut Vec<$word>) {
                let (words, _) = bytes.as_chunks();
                out.extend(words.iter().map(|word| <$word>::from_le_bytes(*word)));
            }

            fn plain_at(&self, bytes: &[u8], wanted: Wanted<'_>, out: &mut Vec<$word>) {
                let (words, _) = bytes.as_chunks();
                out.extend(wanted.places().map(|place| <$word>::from_le_bytes(words[place])));
            }

            fn deltas(
                deltas: &mut Deltas,
                page: &[u8],
                count: usize,
                out: &mut Vec<$word>,
            ) -> Option<()> {
                $deltas(deltas, page, count, out)
            }

            fn take_dictionary(&mut self, bytes: &[u8], entries: usize) -> Option<()> {
                let words = bytes.get(..entries.checked_mul(size_of::<$word>())?)?;
                let mut dictionary = Vec::with_capacity(entries);
                self.plain(words, &mut dictionary);
                self.dictionary = dictionary;
                Some(())
            }

            fn repeat(&self, index: u32, count: usize, out: &mut Vec<$word>) -> Option<()> {
                out.extend(iter::repeat_n(*self.dictionary.get(index as usize)?, count));
                Some(())
            }

            fn look_up(&self, indices: &[u32], out: &mut Vec<$word>) -> Option<()> {
                let dictionary = self.dictionary.as_slice();
                within(indices, dictionary.len())?;
                out.extend(indices.iter().map(|&index| dictionary[index as usize]));
                Some(())
            }
        }
    };
}

numbers!(i64, Deltas::take);
numbers!(i32, narrow_deltas);

fn narrow_deltas(deltas: &mut Deltas, page: &[u8], count: usize, out: &mut Vec<i32>) -> Option<()> {
    let mut values = Vec::with_capacity(count);
    deltas.take(page, count, &mut values)?;
    // Deltas between narrow values wrap around with them.
    out.extend(values.iter().map(|&value| value as i32));
    Some(())
}

/// Integers in fewer bytes, of which the most significant comes first.
pub(crate) struct BigEndian {
    bytes: usize,
    of_dictionary: Numbers<i64>,
}

impl BigEndian {
    /// Of so many bytes each; `None` where that is none or more than eight.
    pub fn of_bytes(bytes: usize) -> Option<Self> {
        (1..=size_of::<i64>())
            .contains(&bytes)
            .then(|| Self { bytes, of_dictionary: Numbers::default() })
    }

    /// The value at this place. What comes behind its bytes is shifted out.
    fn get(&self, bytes: &[u8], place: usize) -> i64 {
        let rest = &bytes[place * self.bytes..];
        let word = rest.first_chunk().copied().unwrap_or_else(|| {
            let mut word = [0; size_of::<i64>()];
            word[..rest.len()].copy_from_slice(rest);
            word
        });
        i64::from_be_bytes(word) >> (8 * (size_of::<i64>() - self.bytes))
    }
}

impl Coding for BigEndian {
    type Item = i64;

    const DELTA_BITS: Option<u32> = None;

    fn plain_bytes(&self) -> Option<usize> {
        Some(self.bytes)
    }

    fn plain(&self, bytes: &[u8], out: &mut Vec<i64>) {
        out.extend((0..bytes.len() / self.bytes).map(|place| self.get(bytes, place)));
    }

    fn plain_at(&self, bytes: &[u8], wanted: Wanted<'_>, out: &mut Vec<i64>) {
        out.extend(wanted.places().map(|place| self.get(bytes, place)));
    }

    fn deltas(_: &mut Deltas, _: &[u8], _: usize, _: &mut Vec<i64>) -> Option<()> {
        None
    }

    fn take_dictionary(&mut self, bytes: &[u8], entries: usize) -> Option<()> {
        let words = bytes.get(..entries.checked_mul(self.bytes)?)?;
        let mut dictionary = Vec::with_capacity(entries);
        self.plain(words, &mut dictionary);
        self.of_dictionary = Numbers { dictionary };
        Some(())
    }

    fn repeat(&self, index: u32, count: usize, out: &mut Vec<i64>) -> Option<()> {
        self.of_dictionary.repeat(index, count, out)
    }

    fn look_up(&self, indices: &[u32], out: &mut Vec<i64>) -> Option<()> {
        self.of_dictionary.look_up(indices, out)
    }
}

/// Texts as codes of a dictionary, the only one of the column.
#[derive(Default)]
pub(crate) struct Codes {
    texts: Option<ArrayRef>,
}

impl Codes {
    /// What codes stand for; `None` before the first page.
    pub fn texts(&self) -> Option<&ArrayRef> {
        self.texts.as_ref()
    }
}

impl Coding for Codes {
    type Item = i32;

    const DELTA_BITS: Option<u32> = None;

    fn plain_bytes(&self) -> Option<usize> {
        None
    }

    fn plain(&self, _: &[u8], _: &mut Vec<i32>) {}

    fn plain_at(&self, _: &[u8], _: Wanted<'_>, _: &mut Vec<i32>) {}

    fn deltas(_: &mut Deltas, _: &[u8], _: usize, _: &mut Vec<i32>) -> Option<()> {
        None
    }

    fn take_dictionary(&mut self, bytes: &[u8], entries: usize) -> Option<()> {
        let texts = decode::texts(bytes, entries)?;
        i32::try_from(texts.len()).ok()?;
        match self.texts.replace(Arc::new(StringArray::from_iter_values(texts))) {
            None => Some(()),
            Some(_) => None,
        }
    }

    fn repeat(&self, index: u32, count: usize, out: &mut Vec<i32>) -> Option<()> {
        within(&[index], self.texts.as_ref()?.len())?;
        out.extend(iter::repeat_n(index.cast_signed(), count));
        Some(())
    }

    fn look_up(&self, indices: &[u32], out: &mut Vec<i32>) -> Option<()> {
        within(indices, self.texts.as_ref()?.len())?;
        out.extend(indices.iter().map(|&index| index.cast_signed()));
        Some(())
    }
}

/// That indices are of a dictionary of so many entries.
fn within(indices: &[u32], entries: usize) -> Option<()> {
    let greatest = indices.iter().fold(0, |greatest, &index| greatest.max(index));
    ((greatest as usize) < entries).then_some(())
}

/// Which of the next rows are wanted.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The places of those that are, ascending, counted from a row before the next ones.
    places: &'a [u32],
    /// The place of the next row.
    first: u32,
    /// How many the next rows are.
    rows: usize,
}

impl<'a> Wanted<'a> {
    /// Those at these ascending places among so many rows, at most 2^32.
    pub fn new(places: &'a [u32], rows: usize) -> Self {
        Self { places, first: 0, rows }
    }

    /// How many the next rows are.
    pub fn rows(self) -> usize {
        self.rows
    }

    /// How many of them are wanted.
    pub fn count(self) -> usize {
        self.places.len()
    }

    /// Where among the next rows those are that are wanted.
    pub fn places(self) -> impl ExactSizeIterator<Item = usize> + use<'a> {
        let first = self.first;
        self.places.iter().map(move |place| (place - first) as usize)
    }

    /// The same of the first `rows` of the rows alone, and of the others.
    pub fn split_at(self, rows: usize) -> (Self, Self) {
        let Self { places, first, rows: all } = self;
        let (before, after) =
            places.split_at(places.partition_point(|place| ((place - first) as usize) < rows));
        let rest = Self { places: after, first: first + rows as u32, rows: all - rows };
        (Self { places: before, first, rows }, rest)
    }
}

/// Values that were taken so far, those of nulls 0, and which are null.
pub(crate) struct Gathered<T> {
    pub values: Vec<T>,
    nulls: NullBufferBuilder,
}

impl<T: ArrowNativeType> Default for Gathered<T> {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl<T: ArrowNativeType> Gathered<T> {
    /// None so far.
    pub fn with_capacity(rows: usize) -> Self {
        Self { values: Vec::with_capacity(rows), nulls: NullBufferBuilder::new(rows) }
    }

    /// The values, and which are null if some are.
    pub fn finish(mut self) -> (ScalarBuffer<T>, Option<NullBuffer>) {
        let nulls = self.nulls.finish().filter(|nulls| nulls.null_count() > 0);
        (self.values.into(), nulls)
    }
}

/// A page of data.
pub(super) struct DataPage {
    pub bytes: PageBytes,
    pub rows: usize,
    /// How many of the rows have a value, where the page says it.
    pub values: Option<usize>,
    pub encoding: Encoding,
    /// What says which rows are null, where some may be.
    pub levels: Option<Levels>,
}

/// Which rows are null.
pub(super) enum Levels {
    /// Before the values, with their length.
    Before,
    /// By themselves.
    Apart(Bytes),
}

/// What is still to come of a page.
pub(super) struct Values {
    bytes: PageBytes,
    levels: Option<(Levels, Hybrid)>,
    /// Where the values begin.
    start: usize,
    form: Form,
    /// Rows that are still to come.
    pub left: usize,
}

enum Form {
    /// The next of those that stand as they are begins at this byte.
    Plain(usize),
    Indices(Hybrid),
    /// Deltas, none of them taken yet: so many, if that is known, and no more than rows.
    Untouched {
        rows: usize,
        values: Option<usize>,
    },
    Deltas(Box<Deltas>),
}

impl Values {
    pub fn of(page: DataPage) -> Option<Self> {
        let DataPage { bytes, rows, values: stated, encoding, levels } = page;
        let (levels, start) = match levels {
            None => (None, 0),
            Some(levels @ Levels::Apart(_)) => (Some((levels, Hybrid::new(0, 1, rows)?)), 0),
            Some(levels @ Levels::Before) => {
                let (hybrid, end) = decode::levels(&bytes, rows)?;
                (Some((levels, hybrid)), end)
            }
        };
        let values = &bytes[start..];
        let form = match encoding {
            Encoding::PLAIN => Form::Plain(0),
            Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY => {
                // Where all are null there may be none, and not even their width.
                let none = values.is_empty() && levels.is_some();
                let count = if none { 0 } else { stated.unwrap_or(rows) };
                Form::Indices(decode::indices(values, count)?)
            }
            Encoding::DELTA_BINARY_PACKED => {
                Form::Untouched { rows, values: stated.or(levels.is_none().then_some(rows)) }
            }
            _ => return None,
        };
        Some(Self { bytes, levels, start, form, left: rows })
    }

    /// The page's bytes.
    pub fn into_bytes(self) -> PageBytes {
        self.bytes
    }

    /// Passes over rows, of which there are so many.
    pub fn skip<C: Coding>(&mut self, coding: &C, rows: usize) -> Option<()> {
        self.left = self.left.checked_sub(rows)?;
        let mut valid = rows;
        if let Some((levels, hybrid)) = &mut self.levels {
            let bytes = levels.bytes(&self.bytes[..self.start]);
            let mut left = rows;
            valid = 0;
            while left > 0 {
                let (run, rows) = next_levels(hybrid, bytes, left)?;
                left -= rows;
                valid += match run {
                    Run::Repeated(level, _) => level as usize * rows,
                    Run::Packed(packed, _) => (0..rows).map(|row| packed.get(row) as usize).sum(),
                };
            }
        }
        self.form.skip(&self.bytes[self.start..], coding, valid)
    }

    /// Takes rows, of which there are so many.
    pub fn take<C: Coding>(
        &mut self,
        coding: &C,
        rows: usize,
        out: &mut Gathered<C::Item>,
    ) -> Option<()> {
        let Gathered { values: out, nulls } = out;
        self.left = self.left.checked_sub(rows)?;
        let (form, values) = (&mut self.form, &self.bytes[self.start..]);
        let Some((levels, hybrid)) = &mut self.levels else {
            nulls.append_n_non_nulls(rows);
            return form.take(values, coding, rows, out);
        };
        let bytes = levels.bytes(&self.bytes[..self.start]);
        let (mut left, mut valid) = (rows, Vec::new());
        while left > 0 {
            let (run, rows) = next_levels(hybrid, bytes, left)?;
            left -= rows;
            match run {
                Run::Repeated(0, _) => {
                    nulls.append_n_nulls(rows);
                    out.resize(out.len() + rows, C::Item::default());
                }
                Run::Repeated(..) => {
                    nulls.append_n_non_nulls(rows);
                    form.take(values, coding, rows, out)?;
                }
                Run::Packed(packed, _) => {
                    let is_valid = |row: &usize| packed.get(*row) == 1;
                    valid.clear();
                    form.take(values, coding, (0..rows).filter(is_valid).count(), &mut valid)?;
                    let mut valid = valid.iter();
                    for row in 0..rows {
                        let is_valid = is_valid(&row);
                        nulls.append(is_valid);
                        out.push(if is_valid { *valid.next()? } else { C::Item::default() });
                    }
                }
            }
        }
        Some(())
    }

    /// Takes those of the next rows that are wanted.
    pub fn pick<C: Coding>(
        &mut self,
        coding: &C,
        wanted: Wanted<'_>,
        out: &mut Gathered<C::Item>,
    ) -> Option<()> {
        if self.levels.is_some() {
            let mut all = Gathered::with_capacity(wanted.rows());
            self.take(coding, wanted.rows(), &mut all)?;
            let (values, nulls) = all.finish();
            for row in wanted.places() {
                out.values.push(values[row]);
                out.nulls.append(nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)));
            }
            return Some(());
        }
        self.left = self.left.checked_sub(wanted.rows())?;
        out.nulls.append_n_non_nulls(wanted.count());
        self.form.pick(&self.bytes[self.start..], coding, wanted, &mut out.values)
    }
}

/// `page` are the bytes of values, the same each time.
impl Form {
    /// Takes those of the next values that are wanted.
    fn pick<C: Coding>(
        &mut self,
        page: &[u8],
        coding: &C,
        wanted: Wanted<'_>,
        out: &mut Vec<C::Item>,
    ) -> Option<()> {
        self.touch::<C>(page, wanted.rows())?;
        match self {
            Self::Plain(at) => {
                let end = at.checked_add(wanted.rows().checked_mul(coding.plain_bytes()?)?)?;
                coding.plain_at(page.get(*at..end)?, wanted, out);
                *at = end;
            }
            Self::Indices(indices) => {
                let mut rest = wanted;
                while rest.rows() > 0 {
                    let run = indices.next(page, rest.rows())??;
                    let (Run::Repeated(_, some) | Run::Packed(_, some)) = run;
                    let (of_run, after) = rest.split_at(some);
                    match run {
                        Run::Repeated(index, _) => coding.repeat(index, of_run.count(), out)?,
                        Run::Packed(packed, _) => {
                            packed.each_at(of_run, |indices| coding.look_up(indices, out))?;
                        }
                    }
                    rest = after;
                }
            }
            Self::Deltas(deltas) => {
                let rows = wanted.places().last().map_or(0, |last| last + 1);
                let mut values = Vec::with_capacity(rows);
                C::deltas(deltas, page, rows, &mut values)?;
                deltas.skip(page, wanted.rows() - rows)?;
                out.extend(wanted.places().map(|place| values[place]));
            }
            Self::Untouched { .. } => {}
        }
        Some(())
    }

    fn skip<C: Coding>(&mut self, page: &[u8], coding: &C, count: usize) -> Option<()> {
        self.touch::<C>(page, count)?;
        match self {
            Self::Plain(at) => *at = at.checked_add(count.checked_mul(coding.plain_bytes()?)?)?,
            Self::Indices(indices) => {
                let mut left = count;
                while left > 0 {
                    let (Run::Repeated(_, some) | Run::Packed(_, some)) =
                        indices.next(page, left)??;
                    left -= some;
                }
            }
            Self::Deltas(deltas) => deltas.skip(page, count)?,
            Self::Untouched { .. } => {}
        }
        Some(())
    }

    fn take<C: Coding>(
        &mut self,
        page: &[u8],
        coding: &C,
        count: usize,
        out: &mut Vec<C::Item>,
    ) -> Option<()> {
        self.touch::<C>(page, count)?;
        match self {
            Self::Plain(at) => {
                let end = at.checked_add(count.checked_mul(coding.plain_bytes()?)?)?;
                coding.plain(page.get(*at..end)?, out);
                *at = end;
            }
            Self::Indices(indices) => {
                let mut left = count;
                while left > 0 {
                    match indices.next(page, left)?? {
                        Run::Repeated(index, some) => {
                            coding.repeat(index, some, out)?;
                            left -= some;
                        }
                        Run::Packed(packed, some) => {
                            packed.each(some, |indices| coding.look_up(indices, out))?;
                            left -= some;
                        }
                    }
                }
            }
            Self::Deltas(deltas) => C::deltas(deltas, page, count, out)?,
            Self::Untouched { .. } => {}
        }
        Some(())
    }

    /// Before so many values are taken or passed over: a page without any may lack even a header.
    fn touch<C: Coding>(&mut self, page: &[u8], count: usize) -> Option<()> {
        if let Self::Untouched { rows, values: stated } = *self
            && count > 0
        {
            let deltas = Deltas::new(page, rows, C::DELTA_BITS?)?;
            stated.is_none_or(|stated| stated == deltas.left()).then_some(())?;
            *self = Self::Deltas(Box::new(deltas));
        }
        Some(())
    }
}

impl Levels {
    fn bytes<'a>(&'a self, before: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Before => before,
            Self::Apart(levels) => levels,
        }
    }
}

/// The next levels of one run; `None` where there are no more.
fn next_levels<'a>(levels: &mut Hybrid, bytes: &'a [u8], most: usize) -> Option<(Run<'a>, usize)> {
    let run = levels.next(bytes, most)??;
    let (Run::Repeated(_, rows) | Run::Packed(_, rows)) = run;
    // One level tells nulls from others.
    match run {
        Run::Repeated(2.., _) => None,
        run => Some((run, rows)),
    }
}

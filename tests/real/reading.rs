//! An independent reading of a real file: the Parquet crate, plain loops, 128-bit and big
//! integers.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, StringArray};
use num_bigint::{BigInt, Sign};
use num_integer::Integer;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::given::{Column, Given};
use crate::oracle::{self, Cell, Decimal, Output, View, Window};
use crate::rational;

/// The accepted rows of a file, in file order.
pub struct Table {
    ts: Vec<i64>,
    keys: Vec<Vec<String>>,
    /// Column by column.
    values: Vec<Vec<Option<i64>>>,
    /// Which of the file's rows each was.
    row: Vec<usize>,
}

/// The cells of one field.
enum Field {
    Integers(Vec<Option<i64>>),
    Floats(Vec<Option<f64>>),
}

impl Table {
    /// The rows that the definitions accept.
    pub fn read(path: &Path, given: &Given) -> Self {
        let file = File::open(path).expect("the file is readable");
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).expect("the file is Parquet");
        let mut table = Self {
            ts: Vec::new(),
            keys: Vec::new(),
            values: given.columns.iter().map(|_| Vec::new()).collect(),
            row: Vec::new(),
        };
        let mut before = 0;
        for batch in builder.build().expect("the file is readable") {
            let batch = batch.expect("the file is whole");
            let field = |name: &str| batch.column_by_name(name).expect("the field exists");
            let Field::Integers(ts) = numbers(field("ts")) else { panic!("times are integers") };
            let keys: Vec<_> = given.keys.iter().map(|(_, name)| texts(field(name))).collect();
            let fields: Vec<_> = given.columns.iter().map(|c| numbers(field(c.field))).collect();
            for row in 0..batch.num_rows() {
                let cells: Option<Vec<Option<i64>>> = given
                    .columns
                    .iter()
                    .zip(&fields)
                    .map(|(column, field)| accept(column, field, row, given.round))
                    .collect();
                let key: Option<Vec<String>> =
                    keys.iter().map(|texts| texts[row].clone()).collect();
                if let (Some(ts), Some(key), Some(cells)) = (ts[row], key, cells) {
                    table.ts.push(ts);
                    table.keys.push(key);
                    table.row.push(before + row);
                    for (column, cell) in table.values.iter_mut().zip(cells) {
                        column.push(cell);
                    }
                }
            }
            before += batch.num_rows();
        }
        table
    }

    pub fn len(&self) -> usize {
        self.ts.len()
    }

    /// The windows of a view over the rows that pass.
    pub fn windows(&self, view: &View, passes: fn(&[Option<i64>]) -> bool) -> Vec<Window> {
        let mut groups: BTreeMap<(&[String], i64), Vec<usize>> = BTreeMap::new();
        for row in 0..self.len() {
            let cells: Vec<_> = self.values.iter().map(|column| column[row]).collect();
            if passes(&cells) {
                let past = (self.ts[row] - view.origin).rem_euclid(view.width);
                groups.entry((&self.keys[row], self.ts[row] - past)).or_default().push(row);
            }
        }
        let rows = groups.into_iter().map(|((key, start), mut rows)| {
            rows.sort_by_key(|&row| (self.ts[row], self.row[row]));
            let cell = |(_, output): &(String, Output)| self.cell(view, *output, &rows);
            let cells = view.outputs.iter().map(cell).collect();
            Window { key: key.to_vec(), start, end: start + view.width, cells }
        });
        rows.collect()
    }

    fn cell(&self, view: &View, output: Output, rows: &[usize]) -> Cell {
        let integer =
            |value: Option<i64>| value.map_or(Cell::Null, |value| Cell::Integer(value.into()));
        let values =
            |c: usize| -> Vec<i64> { rows.iter().filter_map(|&row| self.values[c][row]).collect() };
        let ten = |scale: u32| BigInt::from(10).pow(scale);
        match output {
            Output::Count => Cell::Integer(rows.len().into()),
            Output::CountOf(c) => Cell::Integer(values(c).len().into()),
            Output::Min(c) => integer(values(c).into_iter().min()),
            Output::Max(c) => integer(values(c).into_iter().max()),
            Output::First(c) => integer(values(c).first().copied()),
            Output::Last(c) => integer(values(c).last().copied()),
            Output::Quantile(c, billionths) => integer(oracle::at_rank(values(c), billionths)),
            Output::ApproxQuantile(c, billionths) => {
                let exact = oracle::at_rank(values(c), billionths);
                exact.map_or(Cell::Null, |exact| Cell::Integer(oracle::on_grid(exact)))
            }
            Output::Sum(c) => match values(c).as_slice() {
                [] => Cell::Null,
                values => Cell::Integer(total(values).into()),
            },
            Output::Mean(c) => match values(c).as_slice() {
                [] => Cell::Null,
                values => {
                    let under = BigInt::from(values.len()) * ten(view.scales[c]);
                    Cell::Float(rational::quotient(&total(values).into(), &under))
                }
            },
            Output::Var(c) | Output::Stddev(c) => {
                let values = values(c);
                if values.len() < 2 {
                    return Cell::Null;
                }
                // (n·Σp² − (Σp)²) / (n·(n−1)) at twice the scale.
                let n = BigInt::from(values.len());
                let squares: BigInt = values.iter().map(|&p| BigInt::from(p).pow(2)).sum();
                let over = &n * squares - BigInt::from(total(&values)).pow(2);
                let under = &n * (&n - 1) * ten(2 * view.scales[c]);
                Cell::Float(match output {
                    Output::Var(_) => rational::quotient(&over, &under),
                    _ => rational::root(&over, &under),
                })
            }
            Output::Notional(p, s) => {
                let pair = |&row: &usize| self.values[p][row].zip(self.values[s][row]);
                let pairs = rows.iter().filter_map(pair);
                let products = pairs.map(|(p, s)| i128::from(p) * i128::from(s));
                products.reduce(|a, b| a + b).map_or(Cell::Null, |sum| Cell::Integer(sum.into()))
            }
            Output::Vwap(p, s) => {
                let (mut notional, mut size) = (0_i128, 0_i128);
                for &row in rows {
                    if let (Some(p), Some(s)) = (self.values[p][row], self.values[s][row]) {
                        notional += i128::from(p) * i128::from(s);
                        size += i128::from(s);
                    }
                }
                if size == 0 {
                    return Cell::Null;
                }
                let under = BigInt::from(size) * ten(view.scales[p]);
                Cell::Float(rational::quotient(&notional.into(), &under))
            }
        }
    }

    /// The rows as CSV under the declared names: integer nanoseconds and exact decimals.
    pub fn csv(&self, given: &Given) -> String {
        let names = given.key_names().into_iter().chain(given.columns.iter().map(|c| c.name));
        let header: Vec<_> = ["ts"].into_iter().chain(names).collect();
        let mut text = header.join(",") + "\n";
        for row in 0..self.len() {
            text += &self.ts[row].to_string();
            for key in &self.keys[row] {
                text += &format!(",{key}");
            }
            for (column, values) in given.columns.iter().zip(&self.values) {
                let decimal = |digits: i64| Decimal { digits: digits.into(), scale: column.scale };
                text += &values[row].map_or(",".into(), |v| format!(",{}", decimal(v)));
            }
            text += "\n";
        }
        text
    }
}

fn total(values: &[i64]) -> i128 {
    values.iter().map(|&value| i128::from(value)).sum()
}

fn numbers(array: &ArrayRef) -> Field {
    let any = array.as_any();
    if let Some(integers) = any.downcast_ref::<Int64Array>() {
        return Field::Integers(integers.iter().collect());
    }
    let floats = any.downcast_ref::<Float64Array>();
    Field::Floats(floats.expect("a field is an integer or a float").iter().collect())
}

fn texts(array: &ArrayRef) -> Vec<Option<String>> {
    let texts = array.as_any().downcast_ref::<StringArray>().expect("keys are text");
    texts.iter().map(|text| text.map(str::to_string)).collect()
}

/// A cell at the column's scale; `None` when the row is rejected for it.
fn accept(column: &Column, field: &Field, row: usize, round: bool) -> Option<Option<i64>> {
    let value = match field {
        Field::Integers(cells) => cells[row].map(|value| {
            let up = column.scale - column.stated.unwrap_or(column.scale);
            Some(value.checked_mul(10_i64.pow(up)).expect("real values are far from the bounds"))
        }),
        Field::Floats(cells) => cells[row].map(|x| scaled(x, column.scale, round)),
    };
    match value {
        None if column.optional => Some(None),
        None | Some(None) => None,
        Some(Some(value)) => Some(Some(value)),
    }
}

/// A float as a scaled integer: with m the integer nearest to x·10^s, x is accepted iff
/// |m| ≤ 2^53 and the float nearest to m/10^s is x; or, rounding, whenever m has 64 bits.
fn scaled(x: f64, scale: u32, round: bool) -> Option<i64> {
    if !x.is_finite() {
        return None;
    }
    let ten = BigInt::from(10).pow(scale);
    let bits = x.to_bits();
    let fraction = BigInt::from(bits & ((1 << 52) - 1));
    let (mantissa, exponent) = match i64::try_from(bits >> 52 & 0x7FF).expect("11 bits") {
        0 => (fraction, -1074),
        biased => (fraction + (1_u64 << 52), biased - 1075),
    };
    // |x|·10^s as over/under, then the nearest integer, ties to even.
    let (over, under) = match exponent {
        0.. => ((mantissa * &ten) << exponent.unsigned_abs(), BigInt::from(1)),
        _ => (mantissa * &ten, BigInt::from(1) << exponent.unsigned_abs()),
    };
    let (floor, rest) = over.div_rem(&under);
    let up = match (rest * 2_u32).cmp(&under) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => floor.is_odd(),
    };
    let magnitude = floor + u32::from(up);
    let m = if x.is_sign_negative() { -magnitude } else { magnitude };
    let small = m.magnitude().bits() <= 53 || *m.magnitude() == (1_u64 << 53).into();
    let exact =
        small && (m.sign() == Sign::NoSign && x == 0.0 || rational::quotient(&m, &ten) == x);
    if exact || round { i64::try_from(&m).ok() } else { None }
}

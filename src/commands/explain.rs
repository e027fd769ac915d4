//! `isotick explain`: what a scan would do, what it is predicted to cost, and what it costs.

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use isotick_kernels::{
    CpuEngine, Engine, EngineError, EngineKind, Groups, Partials, Plan, Runs, Term, Truth,
};
use isotick_model::{StreamSchema, time};
use isotick_scheduler::{OnFailure, Part, Scan, ScanView, Work, break_even_rows};
use serde_json::{Value, json};

use crate::cli::{EngineChoice, ExplainArgs};
use crate::input::Input;
use crate::placing::{self, ByForm};
use crate::scanning::StatesRead;
use crate::{engines, rollups, scanning};

pub fn run(args: ExplainArgs) -> Result<ExitCode> {
    let names = [args.view.clone()];
    let mut engines = engines::open(args.engine.engine, args.engine.threads)?;
    let threads = engines.workers.len();
    let mut input = Input::open(&names, &args.input, threads)?;
    let ScanView { view, truth } = input.scan.views[0].clone();
    let schema = input.scan.schema.clone();
    let plan = Plan::over(&view, &schema);
    let columns = scanning::columns_of(&input.scan);
    let costs = placing::costs(&mut CpuEngine)?;
    let gpu = match args.engine.engine {
        EngineChoice::Cpu => None,
        EngineChoice::Auto => {
            engines::hardware_gpu().and_then(|mut gpu| placing::costs(&mut gpu).ok())
        }
        EngineChoice::Gpu => Some(placing::costs(&mut engines::any_gpu()?)?),
    };
    let (files, parts) = (input.files, input.parts.len());
    // What follows is of the ticks that are read.
    let spared = input.states.iter().fold((0, 0), |sum, of| (sum.0 + of.rows, sum.1 + of.bytes));
    input.rows = input.rows.map(|rows| rows - spared.0);
    input.bytes = input.bytes.map(|bytes| bytes - spared.1);
    let forms = Arc::new(Forms::default());
    let sampled = sample(&mut input, engines.workers.pop(), &forms)?;
    // A text file does not say how many rows it has; read to its end, it has.
    let all = sampled.map(|(_, rows)| rows).filter(|_| parts == 1 && input.states.is_empty());
    input.rows = input.rows.or(all);
    let rows = input.rows.unwrap_or(0);
    let lanes = threads.min(parts).max(1);
    // Parts are alike, so that the sample stands for each, also where it leaves rows unread.
    let all_parts_ns = sampled.map(|(ns, _)| ns);
    let sampled = all_parts_ns.filter(|_| rows > 0).map(|ns| ns / rows as f64);
    let predicted = all_parts_ns.map(|ns| ns / 1e9 / lanes as f64);
    // Times and keys always have their place in memory.
    let bytes_per_row = 8 + 4 + 8 * columns.values.len() + 12 * usize::from(columns.identity);
    let work = Work {
        rows: rows as f64 / lanes as f64,
        bytes_per_row: bytes_per_row as f64,
        windows_per_row: 0.0,
        resident: false,
    };
    let on_gpu = Work { rows: rows as f64, ..work };
    let mut report = json!({
        "view": view.name,
        "stream": view.stream,
        "filter": view.filter.as_ref().map(|filter| filter.to_text(&schema)),
        "window": time::format_duration(view.window.width_ns),
        "truth": truth_name(truth),
        "plan": {
            "terms": terms(&plan, &schema),
            "words_per_window": plan.words(),
            "bytes_per_window": plan.words() * 8,
            "multisets": plan.values().len(),
        },
        "reads": {
            "files": files,
            "parts": parts,
            "rows": input.rows,
            "bytes": input.bytes,
            "bytes_per_tick": per_row(input.bytes, input.rows),
            "bytes_per_tick_in_memory": bytes_per_row,
            "states": states(&input.states),
            "columns": read_columns(&input, &columns),
            "identities": columns.identity,
            "times": match columns.one_window {
                Some(_) => "where row groups cross windows",
                None => "all",
            },
        },
        "engine": engines.description,
        "threads": threads,
        "predicted": {
            "seconds": predicted,
            "ns_per_row_and_thread": sampled,
            "reduce_on_cpu_seconds": costs.runs.predict(&work).as_secs_f64(),
            "reduce_on_cpu_ns_per_row": costs.runs.row_ns,
            "reduce_on_gpu_seconds": gpu.map(|gpu| gpu.runs.predict(&on_gpu).as_secs_f64()),
            "reduce_on_gpu_ns_per_row": gpu.map(|gpu| gpu.runs.row_ns),
            "break_even_rows": gpu.and_then(|gpu| break_even_rows(&costs.runs, &gpu.runs, &work)),
            "in_any_order": {
                "reduce_on_cpu_ns_per_row": costs.groups.map(|costs| costs.row_ns),
                "reduce_on_gpu_ns_per_row": gpu.and_then(|gpu| gpu.groups).map(|gpu| gpu.row_ns),
                "break_even_rows": costs.groups.zip(gpu.and_then(|gpu| gpu.groups))
                    .and_then(|(cpu, gpu)| break_even_rows(&cpu, &gpu, &work)),
            },
        },
        "sampled": forms.to_json(),
    });
    if args.measure {
        // The sample has taken a part and an engine.
        let engines = engines::open(args.engine.engine, args.engine.threads)?;
        let Input { scan, parts, rows, rejections, .. } =
            Input::open(&names, &args.input, threads)?;
        let finished = scanning::run(&scan, parts, rows, engines, &mut |_| Ok(()))?;
        rejections.report();
        let mut stats = finished.to_json();
        let measured = finished.elapsed.as_secs_f64();
        stats["over_predicted"] = predicted.map(|predicted| measured / predicted.max(1e-9)).into();
        report["measured"] = stats;
    }
    match args.json {
        true => println!("{report}"),
        false => print(&report, gpu.as_ref(), &costs),
    }
    Ok(ExitCode::SUCCESS)
}

/// Parts that are read as a sample, at most.
const SAMPLED_PARTS_MAX: usize = 8;

/// Reads, reduces and finishes some parts on one thread: nanoseconds that all would take, and rows
/// that were read; `None` of nothing. Parts of ticks are alike, and so are those of states.
fn sample(
    input: &mut Input,
    engine: Option<Box<dyn Engine>>,
    forms: &Arc<Forms>,
) -> Result<Option<(f64, u64)>> {
    let (states, ticks): (Vec<_>, _) =
        input.parts.drain(..).partition(|part: &Part| part.is_of_states());
    let noting = |engine| Box::new(Noting { engine, forms: forms.clone() }) as Box<dyn Engine>;
    let mut engine = engine.map(noting);
    let mut all = None;
    for parts in [ticks, states] {
        let of_kind = sample_of(&input.scan, parts, engine.take().or_else(cpu))?;
        all = match (all, of_kind) {
            (Some((ns, rows)), Some((more_ns, more))) => Some((ns + more_ns, rows + more)),
            (one, other) => one.or(other),
        };
    }
    Ok(all)
}

/// Rows that came in runs and rows that came in groups, each by the engine that reduced them.
#[derive(Default)]
struct Forms([[AtomicU64; 2]; 2]);

impl Forms {
    fn add(&self, in_groups: bool, kind: EngineKind, rows: usize) {
        let counted = &self.0[usize::from(in_groups)][usize::from(kind == EngineKind::Gpu)];
        counted.fetch_add(rows as u64, Ordering::Relaxed);
    }

    fn to_json(&self) -> Value {
        let rows = |form: &[AtomicU64; 2]| {
            let [cpu, gpu] = form.each_ref().map(|rows| rows.load(Ordering::Relaxed));
            json!({ "cpu_rows": cpu, "gpu_rows": gpu })
        };
        json!({ "in_runs": rows(&self.0[0]), "in_any_order": rows(&self.0[1]) })
    }
}

/// An engine that notes in which form rows come to it, and who reduces them.
struct Noting {
    engine: Box<dyn Engine>,
    forms: Arc<Forms>,
}

impl Engine for Noting {
    fn kind(&self) -> EngineKind {
        self.engine.kind()
    }

    fn describe(&self) -> String {
        self.engine.describe()
    }

    fn reduce(&mut self, plan: &Plan, runs: &Runs) -> Result<Partials, EngineError> {
        let partials = self.engine.reduce(plan, runs)?;
        self.forms.add(false, self.engine.kind(), runs.ticks.len());
        Ok(partials)
    }

    fn takes_groups(&self) -> bool {
        self.engine.takes_groups()
    }

    fn reduce_groups(&mut self, plan: &Plan, groups: &Groups) -> Result<Partials, EngineError> {
        let partials = self.engine.reduce_groups(plan, groups)?;
        self.forms.add(true, self.engine.kind(), groups.ticks.len());
        Ok(partials)
    }
}

/// The engine of what is not sampled with the one of the scan.
fn cpu() -> Option<Box<dyn Engine>> {
    Some(Box::new(CpuEngine))
}

/// The same of parts that are alike, from the middle.
fn sample_of(
    scan: &Scan,
    mut parts: Vec<Part>,
    engine: Option<Box<dyn Engine>>,
) -> Result<Option<(f64, u64)>> {
    let len = parts.len();
    if len == 0 {
        return Ok(None);
    }
    // Several, so that what comes first and only once weighs less.
    let middle = len / 2;
    let count = (len / 8 + 1).min(SAMPLED_PARTS_MAX).min(len - middle);
    let parts = parts.drain(middle..middle + count).collect();
    let started = Instant::now();
    let engines = engine.into_iter().collect();
    let outcome = scan.run(parts, engines, OnFailure::ContinueOnCpu, &AtomicU64::new(0))?;
    for view in &outcome.views {
        view.finish(NonZeroUsize::MIN, |_| anyhow::Ok(()))?;
    }
    let elapsed_ns = started.elapsed().as_secs_f64() * 1e9;
    Ok(Some((elapsed_ns * len as f64 / count as f64, outcome.rows_read)))
}

fn truth_name(truth: Truth) -> &'static str {
    match truth {
        Truth::Now => "now: all ticks, however late",
        Truth::Seen { .. } => "seen: what live could know",
        Truth::Late { .. } => "late: what came too late for live",
    }
}

/// The states that are read, and the ticks that stay unread for it.
fn states(states: &[StatesRead]) -> Vec<Value> {
    let of = |of: &StatesRead| {
        json!({
            "of": rollups::describe(&of.base),
            "window": time::format_duration(of.base.width_ns),
            "filter": of.base.filter,
            "states": of.states,
            "bytes": of.bytes,
            "files": of.files,
            "ticks_spared": of.rows,
        })
    };
    states.iter().map(of).collect()
}

fn per_row(bytes: Option<u64>, rows: Option<u64>) -> Option<f64> {
    let (bytes, rows) = bytes.zip(rows.filter(|rows| *rows > 0))?;
    Some((bytes as f64 / rows as f64 * 100.0).round() / 100.0)
}

fn read_columns(input: &Input, columns: &isotick_storage::Columns) -> Vec<String> {
    let schema = &input.scan.schema;
    let values = columns.values.iter().map(|&column| schema.columns[column].name.clone());
    schema.keys.iter().cloned().chain(values).collect()
}

/// A batch has at most 131,072 rows: fewer than 2 to this.
const BATCH_BITS: u32 = 18;

/// Each term with its words, and the bits that its accumulator needs by the declared bounds.
fn terms(plan: &Plan, schema: &StreamSchema) -> Vec<Value> {
    let name = |column: usize| schema.columns[column].name.as_str();
    let bits = |column: usize| {
        let column = &schema.columns[column];
        let magnitude = column.min.unsigned_abs().max(column.max.unsigned_abs());
        u64::BITS - magnitude.leading_zeros()
    };
    let nulls = |column: usize| schema.columns[column].optional;
    let width = |bits: u32, nulls: bool, with_nulls: u32| match bits + BATCH_BITS {
        _ if nulls => with_nulls,
        0..=63 => 64,
        64..=127 => 128,
        _ => 192,
    };
    let describe = |term: Term| match term {
        Term::Rows => ("count()".to_owned(), None),
        Term::Count(c) => (format!("count({})", name(c)), None),
        Term::Sum(c) => (format!("sum({})", name(c)), Some(width(bits(c), nulls(c), 128))),
        Term::SumProduct(a, b) => (
            format!("sum({} * {})", name(a), name(b)),
            Some(width(bits(a) + bits(b), nulls(a) || nulls(b), 192)),
        ),
        Term::SumPaired { of, with } => (
            format!("sum({}) where {} is there", name(of), name(with)),
            Some(width(bits(of), nulls(of) || nulls(with), 128)),
        ),
        Term::Min(c) => (format!("min({})", name(c)), None),
        Term::Max(c) => (format!("max({})", name(c)), None),
        Term::First(c) => (format!("first({})", name(c)), None),
        Term::Last(c) => (format!("last({})", name(c)), None),
    };
    let terms = plan.terms().iter().map(|&(term, _)| {
        let (text, bits) = describe(term);
        json!({ "term": text, "words": term.words(), "accumulator_bits_at_most": bits })
    });
    terms.collect()
}

fn print(report: &Value, gpu: Option<&ByForm>, cpu: &ByForm) {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    };
    let line = |name: &str, value: String| println!("{name:<12}{value}");
    let many = |count: &Value, what: &str| match count.as_u64() {
        Some(1) => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    let (plan, reads) = (&report["plan"], &report["reads"]);
    line("view", format!("{} of stream {}", text(&report["view"]), text(&report["stream"])));
    line("filter", text(&report["filter"]));
    line("windows", text(&report["window"]));
    line("truth", text(&report["truth"]));
    line(
        "plan",
        format!(
            "{} words ({} bytes) of exact state per window and key",
            plan["words_per_window"], plan["bytes_per_window"]
        ),
    );
    for term in plan["terms"].as_array().into_iter().flatten() {
        let bits = match &term["accumulator_bits_at_most"] {
            Value::Null => String::new(),
            bits => format!(", summed in at most {bits} bits by the declared bounds"),
        };
        println!("            {:<36} {}{bits}", text(&term["term"]), many(&term["words"], "word"));
    }
    if plan["multisets"] != 0 {
        println!("            {} multisets of values for quantiles", plan["multisets"]);
    }
    let rows = match &reads["rows"] {
        Value::Null => "rows unknown before they are read".to_owned(),
        rows => format!("at most {rows} rows"),
    };
    let (files, parts) = (many(&reads["files"], "file"), many(&reads["parts"], "part"));
    line("reads", format!("{files} in {parts}, {rows}"));
    println!(
        "            {} bytes, {} a tick stored, {} in memory",
        text(&reads["bytes"]),
        text(&reads["bytes_per_tick"]),
        reads["bytes_per_tick_in_memory"]
    );
    for of in reads["states"].as_array().into_iter().flatten() {
        let files = of["files"].as_array().map_or(0, Vec::len);
        println!(
            "            {} stored states of {}, {} bytes, in place of {} ticks in {files} files",
            of["states"],
            text(&of["of"]),
            of["bytes"],
            of["ticks_spared"]
        );
    }
    let columns = reads["columns"].as_array().into_iter().flatten().map(text);
    println!("            columns: {}", columns.collect::<Vec<_>>().join(", "));
    let identities = if reads["identities"] == true { "read" } else { "not needed" };
    println!("            times: {}; publisher and sequence: {identities}", text(&reads["times"]));
    let threads = many(&report["threads"], "thread");
    line("engine", format!("{}, {threads}", text(&report["engine"])));
    let seconds = |value: &Value| match value.as_f64() {
        Some(seconds) => format!("{:.3?}", Duration::from_secs_f64(seconds)),
        None => "none".to_owned(),
    };
    let predicted = &report["predicted"];
    let sampled = match predicted["ns_per_row_and_thread"].as_f64() {
        Some(ns) => format!("; {ns:.1} ns a row and thread, from a sample"),
        None => String::new(),
    };
    line("predicted", format!("{} for all of it{sampled}", seconds(&predicted["seconds"])));
    println!(
        "            of which {} to reduce on the CPU ({:.2} ns a row and thread)",
        seconds(&predicted["reduce_on_cpu_seconds"]),
        cpu.runs.row_ns
    );
    match gpu {
        Some(gpu) => {
            println!(
                "            or {} on the GPU ({:.2} ns a row, {:.1} us a batch)",
                seconds(&predicted["reduce_on_gpu_seconds"]),
                gpu.runs.row_ns,
                gpu.runs.dispatch_ns / 1e3
            );
            let from = match &predicted["break_even_rows"] {
                Value::Null => "never: the CPU is faster at every size".to_owned(),
                rows => format!("the GPU is faster from {rows} rows a batch on"),
            };
            line("break-even", from);
            if let (Some(cpu), Some(gpu)) = (cpu.groups, gpu.groups) {
                let from = match &predicted["in_any_order"]["break_even_rows"] {
                    Value::Null => "the CPU is faster at every size".to_owned(),
                    rows => format!("the GPU is faster from {rows} rows a batch on"),
                };
                println!(
                    "            rows in any order: {:.2} ns a row on the CPU as they come, {:.2} \
                     partitioned on the GPU; {from}",
                    cpu.row_ns, gpu.row_ns
                );
            }
        }
        None => line("break-even", "none: every batch goes to the CPU".into()),
    }
    let sampled = &report["sampled"];
    for (form, how) in [
        ("in_runs", ["in runs, reduced on the CPU", "in runs, reduced on the GPU"]),
        (
            "in_any_order",
            [
                "in any order, reduced on the CPU",
                "in any order, partitioned and reduced on the GPU",
            ],
        ),
    ] {
        for (rows, how) in ["cpu_rows", "gpu_rows"].map(|by| &sampled[form][by]).iter().zip(how) {
            if **rows != 0 {
                line("sampled", format!("{rows} rows {how}"));
            }
        }
    }
    if let Some(measured) = report.get("measured") {
        let over = measured["over_predicted"].as_f64();
        let over = over.map(|over| format!(", {over:.2} times the prediction"));
        line(
            "measured",
            format!(
                "{} from the first byte to the last of {} windows, {} rows/s{}",
                seconds(&measured["seconds"]),
                measured["windows"],
                measured["rows_per_s"],
                over.unwrap_or_default()
            ),
        );
        line("hash", text(&measured["hash"]));
    }
}

//! A model as lines of text for a screen of some size.

use isotick_client::{JobState, JobStatus};

use super::model::{Jobs, Lanes, Model};
use crate::commands::jobs::show;
use crate::commands::numbers::{bytes, grouped, magnitude, nanoseconds, seconds, share};

/// How a piece of text stands out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    #[default]
    Plain,
    /// What a column or a section is called.
    Head,
    /// Of little interest.
    Dim,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Wrong.
    Bad,
}

/// A line of text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(pub Vec<(Style, String)>);

impl Line {
    fn of(style: Style, text: impl Into<String>) -> Self {
        Self(vec![(style, text.into())])
    }

    fn add(mut self, style: Style, text: impl Into<String>) -> Self {
        self.0.push((style, text.into()));
        self
    }

    /// Its text alone.
    pub fn text(&self) -> String {
        self.0.iter().map(|(_, text)| text.as_str()).collect::<String>().trim_end().to_owned()
    }

    /// At most so wide, and without anything that a terminal would take for a command: names come
    /// from clients.
    fn cut(self, width: usize) -> Self {
        let mut left = width;
        let cut = self.0.into_iter().map(|(style, text)| {
            let clean = text.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c });
            let text: String = clean.take(left).collect();
            left -= text.chars().count();
            (style, text)
        });
        Self(cut.collect())
    }
}

/// The size of a screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Characters.
    pub width: usize,
    /// Lines.
    pub height: usize,
}

/// What the first line says beside the model.
pub struct Heading<'a> {
    /// The service's address.
    pub address: &'a str,
    /// What is wrong with the connection; the model is an earlier one then.
    pub lost: Option<&'a str>,
}

/// The lines of one frame: never more or wider than the screen. What does not fit is counted at
/// the end of the jobs, which come last.
pub fn frame(heading: &Heading<'_>, model: Option<&Model>, size: Size) -> Vec<Line> {
    let mut lines = vec![first_line(heading, model)];
    if let Some(reason) = heading.lost {
        lines.push(Line::of(Style::Bad, format!("{reason}; trying again")));
    }
    if let Some(model) = model {
        lines.extend(model.troubles.iter().map(|trouble| Line::of(Style::Bad, trouble.clone())));
        live(model, &mut lines);
        if let Some(lanes) = &model.lanes {
            lanes_lines(lanes, &mut lines);
        }
        if let Some(jobs) = &model.jobs {
            jobs_lines(jobs, size.height.saturating_sub(lines.len()), &mut lines);
        }
    } else if heading.lost.is_none() {
        lines.push(Line::of(Style::Dim, "connecting"));
    }
    lines.truncate(size.height);
    lines.into_iter().map(|line| line.cut(size.width)).collect()
}

fn first_line(heading: &Heading<'_>, model: Option<&Model>) -> Line {
    let line = Line::of(Style::Head, format!("isotick {}", heading.address));
    let Some(model) = model else { return line };
    let ticks: u64 = model.streams.iter().map(|stream| stream.ticks_per_s).sum();
    line.add(
        Style::Plain,
        format!(
            "  up {}  engine {}  {} ticks/s  {} connections  {} sessions  {} subscribers  {} in flight",
            seconds(model.uptime_s as f64),
            model.engine,
            magnitude(ticks as f64),
            model.connections,
            model.sessions,
            model.subscribers,
            bytes(model.in_flight_bytes),
        ),
    )
}

fn live(model: &Model, lines: &mut Vec<Line>) {
    table(
        ["stream", "ticks/s", "lag", "accepted", "late", "rejected", "missing", "publishers"],
        model.streams.iter().map(|stream| {
            let problem = |count: u64| match count {
                0 => (Style::Dim, "0".to_owned()),
                count => (Style::Warn, grouped(count)),
            };
            [
                (Style::Plain, stream.name.clone()),
                (Style::Plain, magnitude(stream.ticks_per_s as f64)),
                (Style::Plain, stream.lag_s.map_or_else(|| "none".into(), signed_seconds)),
                (Style::Plain, grouped(stream.accepted)),
                (Style::Plain, grouped(stream.late)),
                problem(stream.rejected),
                problem(stream.missing),
                (Style::Plain, stream.publishers.to_string()),
            ]
        }),
        lines,
    );
    table(
        ["view", "windows", "windows/s", "corrections", "open", "too late", "subscribers"],
        model.views.iter().map(|view| {
            let rate = view.per_s.map_or_else(String::new, magnitude);
            [
                view.name.clone(),
                grouped(view.windows),
                rate,
                grouped(view.corrections),
                grouped(view.open),
                grouped(view.too_late),
                view.subscribers.to_string(),
            ]
            .map(|text| (Style::Plain, text))
        }),
        lines,
    );
    table(
        ["stage", "times", "p50", "p99", "max"],
        model.stages.iter().map(|stage| {
            [
                stage.name.clone(),
                grouped(stage.count),
                nanoseconds(stage.p50_ns),
                nanoseconds(stage.p99_ns),
                nanoseconds(stage.max_ns),
            ]
            .map(|text| (Style::Plain, text))
        }),
        lines,
    );
    let log = &model.log;
    let behind = |mark: u64| match log.records.saturating_sub(mark) {
        0 => "all".to_owned(),
        behind => format!("all but {}", grouped(behind)),
    };
    lines.push(Line::default());
    lines.push(Line::of(Style::Head, "log").add(
        Style::Plain,
        format!(
            "  {} records, durable {}, in history {}",
            grouped(log.records),
            behind(log.durable),
            behind(log.in_history)
        ),
    ));
}

fn lanes_lines(lanes: &Lanes, lines: &mut Vec<Line>) {
    let step = match lanes.step.as_str() {
        "none" => Style::Good,
        "backpressure" => Style::Bad,
        _ => Style::Warn,
    };
    let waiting = match lanes.queued {
        None => String::new(),
        Some(queued) => format!(", {queued} waiting"),
    };
    lines.push(
        Line::of(Style::Head, "lanes")
            .add(Style::Plain, "  step ")
            .add(step, lanes.step.clone())
            .add(Style::Plain, format!("   {}/{} slots busy{waiting}", lanes.busy, lanes.slots)),
    );
    for (name, held, most) in [
        ("host", lanes.host_bytes, lanes.host_bytes_max),
        ("device", lanes.device_bytes, lanes.device_bytes_max),
    ] {
        if most > 0 {
            let used = format!("  {} of {}", bytes(held), bytes(most));
            let style = if held > most / 10 * 9 { Style::Warn } else { Style::Good };
            lines.push(
                Line::of(Style::Plain, format!("  {name:<7}"))
                    .add(style, gauge(held, most))
                    .add(Style::Plain, used),
            );
        }
    }
    let counts = lanes.counts.iter().map(|(name, count)| format!("{} {name}", grouped(*count)));
    let counts: Vec<_> = counts.collect();
    if !counts.is_empty() {
        lines.push(Line::of(Style::Plain, format!("  {}", counts.join(", "))));
    }
    for owner in &lanes.owners {
        lines.push(Line::of(
            Style::Plain,
            format!(
                "  {:<20} {:>4.0} % of what scans get, {} so far",
                shortened(&owner.name, 20),
                owner.share * 100.0,
                seconds(owner.busy_s)
            ),
        ));
    }
}

/// The jobs in so many lines.
fn jobs_lines(jobs: &Jobs, height: usize, lines: &mut Vec<Line>) {
    lines.push(Line::default());
    let counts = [
        (Style::Good, jobs.running, "running"),
        (Style::Plain, jobs.queued, "queued"),
        (Style::Plain, jobs.done, "done"),
        (Style::Bad, jobs.failed, "failed"),
        (Style::Plain, jobs.cancelled, "cancelled"),
    ];
    let mut head = Line::of(Style::Head, "jobs  ");
    for (at, (style, count, name)) in counts.into_iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        let style = if count == 0 { Style::Dim } else { style };
        head = head.add(Style::Plain, comma).add(style, format!("{count} {name}"));
    }
    lines.push(head);
    // The blank line, the head and the table's own.
    let room = height.saturating_sub(3);
    let shown = match jobs.list.len() <= room {
        true => jobs.list.len(),
        false => room.saturating_sub(1),
    };
    let before = lines.len();
    table(
        ["id", "state", "owner", "views", "done", "rows/s", "left"],
        jobs.list[..shown].iter().map(job_cells),
        lines,
    );
    // The table's blank line: the head stands right above it.
    if lines.len() > before {
        lines.remove(before);
    }
    if shown < jobs.list.len() {
        let more = jobs.list.len() - shown;
        lines.push(Line::of(Style::Dim, format!("… and {more} more: `isotick jobs list`")));
    }
}

fn job_cells(job: &JobStatus) -> [(Style, String); 7] {
    let style = match job.state {
        JobState::Failed => Style::Bad,
        JobState::Running | JobState::Planning | JobState::Finishing => Style::Good,
        state if state.is_over() => Style::Dim,
        _ => Style::Plain,
    };
    let running = !job.state.is_over();
    let views: Vec<_> = job.views.iter().map(|view| view.view.as_str()).collect();
    let rate = job.rows_per_s.filter(|rate| running && *rate > 0.0);
    let left = job.remaining_seconds.filter(|_| running);
    let done = match job.state {
        JobState::Done => "100 %".to_owned(),
        _ => share(job.rows.done, job.rows.total),
    };
    [
        (Style::Plain, job.id.to_string()),
        (style, shortened(&show::standing(job), 40)),
        (Style::Plain, shortened(job.owner.as_deref().unwrap_or(""), 20)),
        (Style::Plain, shortened(&views.join(" "), 30)),
        (Style::Plain, done),
        (Style::Plain, rate.map_or_else(String::new, magnitude)),
        (Style::Plain, left.map_or_else(String::new, seconds)),
    ]
}

/// A blank line, the columns' names, and rows; nothing where there are none. The first column and
/// those of words stand to the left.
fn table<const N: usize>(
    names: [&str; N],
    rows: impl Iterator<Item = [(Style, String); N]>,
    lines: &mut Vec<Line>,
) {
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return;
    }
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].1.chars().count());
        cells.max().unwrap_or(0).max(names[column].len())
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let is_left =
        |column: usize| column == 0 || ["state", "owner", "views"].contains(&names[column]);
    let cell = |column: usize, text: &str| {
        let width = widths[column];
        match is_left(column) {
            true => format!("{text:<width$}  "),
            false => format!("{text:>width$}  "),
        }
    };
    let named = |(column, name): (usize, &&str)| (Style::Head, cell(column, name));
    lines.push(Line::default());
    lines.push(Line(names.iter().enumerate().map(named).collect()));
    for row in &rows {
        let cells = row.iter().enumerate();
        lines.push(Line(cells.map(|(at, (style, text))| (*style, cell(at, text))).collect()));
    }
}

/// How full something is, in twenty steps.
fn gauge(held: u64, most: u64) -> String {
    const STEPS: u128 = 20;
    let full = (u128::from(held.min(most)) * STEPS).div_ceil(u128::from(most.max(1))) as usize;
    format!("[{}{}]", "#".repeat(full), "-".repeat(STEPS as usize - full))
}

/// A span that may lie ahead.
fn signed_seconds(span: f64) -> String {
    match span < 0.0 {
        true => format!("-{}", seconds(-span)),
        false => seconds(span),
    }
}

fn shortened(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text.chars().take(width - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;

//! Following a job: a bar on a terminal, lines elsewhere.

use std::cell::RefCell;
use std::io::IsTerminal;

use indicatif::ProgressBar;
use isotick_client::{JobId, JobStatus};

use super::show;
use crate::progress;

/// Runs something until it is done or Ctrl-C comes; `None` then.
pub async fn until_interrupted<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        _ = tokio::signal::ctrl_c() => None,
    }
}

/// Shows on standard error, where that is a terminal, how far a job is.
pub struct Follower {
    bar: ProgressBar,
    what: String,
    last: RefCell<Option<JobStatus>>,
}

impl Follower {
    /// A follower of a job that computes this.
    pub fn new(what: &str) -> Self {
        let bar = progress::bar(&format!("submitting {what}"), Some(0), "rows");
        Self { bar, what: what.to_owned(), last: RefCell::default() }
    }

    /// Where the job stands now.
    pub fn tell(&self, job: &JobStatus) {
        self.bar.set_message(format!("{} {}", self.what, show::standing(job)));
        self.bar.set_length(job.rows.total);
        self.bar.set_position(job.rows.done);
        *self.last.borrow_mut() = Some(job.clone());
    }

    /// What was told last.
    pub fn last(&self) -> Option<JobStatus> {
        self.last.borrow().clone()
    }

    /// Nothing more is shown.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// What `jobs watch` shows: a bar, or a line on standard output whenever the job got on.
pub struct Lines {
    bar: Option<Follower>,
    json: bool,
    last: RefCell<String>,
}

impl Lines {
    /// Of one job.
    pub fn new(json: bool, id: &JobId) -> Self {
        let bar =
            (!json && std::io::stderr().is_terminal()).then(|| Follower::new(&format!("job {id}")));
        Self { bar, json, last: RefCell::default() }
    }

    /// Where the job stands now.
    pub fn tell(&self, job: &JobStatus) {
        match &self.bar {
            Some(bar) => bar.tell(job),
            None => {
                let line = match self.json {
                    true => job.json().to_owned(),
                    false => show::line(job),
                };
                if *self.last.borrow() != line {
                    println!("{line}");
                    *self.last.borrow_mut() = line;
                }
            }
        }
    }

    /// Nothing more is shown.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.end();
        }
    }
}

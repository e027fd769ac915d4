//! What a start needs of the live path at one log position, and its stored form: a Protocol
//! Buffers message.

use std::sync::Arc;

use anyhow::{Context, Result};
use isotick_ingest::sequencer::{SavedPublisher, SavedSequencer};
use isotick_kernels::{SavedMultiset, SavedWindows};
use isotick_model::view::View;
use isotick_model::{Key, LogPosition, PublisherId, RejectReason};
use isotick_scheduler::{LiveCounters, SavedView};
use isotick_storage::Checkpoint;
use isotick_wire::Ack;
use prost::Message;

use super::channel::KeptWindows;

/// Sequencer and views at one log position.
pub struct LivePath {
    /// The first log position whose effects are *not* in it.
    pub position: LogPosition,
    pub sequencer: SavedSequencer,
    pub views: Vec<LivePathView>,
}

/// A view with what its subscribers may still ask for.
pub struct LivePathView {
    /// The hash of its definition.
    pub definition: String,
    pub view: SavedView,
    pub kept: KeptWindows,
}

impl LivePath {
    /// The stored form.
    pub fn encode(&self) -> Result<Checkpoint> {
        let path = stored::LivePath {
            watermarks: (self.sequencer.watermarks.iter())
                .map(|(stream, w)| stored::Watermark { stream: stream.clone(), w: *w })
                .collect(),
            publishers: self.sequencer.publishers.iter().map(publisher_to_stored).collect(),
            views: self.views.iter().map(view_to_stored).collect::<Result<_>>()?,
        };
        Ok(Checkpoint { position: self.position, payload: path.encode_to_vec() })
    }

    /// Reads the stored form, as far as the views are among those given.
    pub fn decode(checkpoint: &Checkpoint, views: &[Arc<View>]) -> Result<Self> {
        let path = stored::LivePath::decode(&*checkpoint.payload)?;
        let watermarks = path.watermarks.into_iter().map(|known| (known.stream, known.w)).collect();
        let publishers = path.publishers.into_iter().map(publisher_from_stored);
        let view = |stored: stored::View| {
            let view = views.iter().find(|view| view.definition.0 == stored.definition)?;
            Some(view_from_stored(stored, view))
        };
        Ok(Self {
            position: checkpoint.position,
            sequencer: SavedSequencer {
                watermarks,
                publishers: publishers.collect::<Result<_>>()?,
            },
            views: path.views.into_iter().filter_map(view).collect::<Result<_>>()?,
        })
    }
}

fn publisher_to_stored(known: &SavedPublisher) -> stored::Publisher {
    let Ack { accepted, late, duplicate, conflicting, rejected, lost, .. } = known.ack;
    let rejected = rejected.iter().filter(|(_, rows)| *rows > 0);
    stored::Publisher {
        stream: known.stream.clone(),
        publisher: known.publisher.as_str().to_owned(),
        is_active: known.is_active,
        greatest: known.greatest,
        next_sequence: known.next_sequence,
        beyond: known.beyond.clone(),
        accepted,
        late,
        duplicate,
        conflicting,
        lost,
        rejected: rejected
            .map(|(reason, rows)| stored::Rejected { reason: u32::from(reason as u8), rows })
            .collect(),
    }
}

fn publisher_from_stored(stored: stored::Publisher) -> Result<SavedPublisher> {
    let publisher =
        PublisherId::new(&stored.publisher).context("it names a publisher that cannot be")?;
    let mut ack = Ack {
        accepted: stored.accepted,
        late: stored.late,
        duplicate: stored.duplicate,
        conflicting: stored.conflicting,
        lost: stored.lost,
        ..Ack::default()
    };
    for stored::Rejected { reason, rows } in stored.rejected {
        let reason = u8::try_from(reason).ok().and_then(RejectReason::from_code);
        ack.rejected.add(reason.context("it counts an unknown reason")?, rows);
    }
    Ok(SavedPublisher {
        stream: stored.stream,
        publisher,
        is_active: stored.is_active,
        greatest: stored.greatest,
        next_sequence: stored.next_sequence,
        beyond: stored.beyond,
        ack,
    })
}

fn view_to_stored(known: &LivePathView) -> Result<stored::View> {
    let SavedView { windows, versions, from, counters } = &known.view;
    Ok(stored::View {
        definition: known.definition.clone(),
        versions: versions.clone(),
        from: *from,
        ticks: counters.ticks,
        too_late: counters.too_late,
        closed: counters.windows,
        corrections: counters.corrections,
        published: known.kept.published,
        kept: known.kept.encode()?,
        ..windows_to_stored(windows)
    })
}

/// Windows alone.
pub(super) fn windows_to_stored(windows: &SavedWindows) -> stored::View {
    let multiset = |set: &SavedMultiset| stored::Multiset {
        values: set.values.clone(),
        counts: set.counts.clone(),
    };
    let publishers = windows.publishers.iter().map(|publisher| publisher.as_str().to_owned());
    stored::View {
        keys: windows.keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
        publishers: publishers.collect(),
        key: windows.key.clone(),
        start: windows.start.clone(),
        words: windows.words.clone(),
        multisets: windows.multisets.iter().map(multiset).collect(),
        passed: windows.passed,
        unrepresentable: windows.unrepresentable,
        left_out: windows.too_late,
        ..stored::View::default()
    }
}

/// The same again; takes them out of the message.
pub(super) fn windows_from_stored(stored: &mut stored::View) -> Result<SavedWindows> {
    let keys = stored.keys.iter().map(|bytes| Key::from_bytes(bytes));
    let publishers = stored.publishers.iter().map(|name| PublisherId::new(name));
    let multiset = |set: stored::Multiset| SavedMultiset { values: set.values, counts: set.counts };
    Ok(SavedWindows {
        keys: keys.collect::<Option<_>>().context("it holds a malformed key")?,
        publishers: publishers
            .collect::<Option<_>>()
            .context("it names a publisher that cannot be")?,
        key: std::mem::take(&mut stored.key),
        start: std::mem::take(&mut stored.start),
        words: std::mem::take(&mut stored.words),
        multisets: std::mem::take(&mut stored.multisets).into_iter().map(multiset).collect(),
        passed: stored.passed,
        unrepresentable: stored.unrepresentable,
        too_late: stored.left_out,
    })
}

fn view_from_stored(mut stored: stored::View, view: &View) -> Result<LivePathView> {
    Ok(LivePathView {
        view: SavedView {
            windows: windows_from_stored(&mut stored)?,
            versions: std::mem::take(&mut stored.versions),
            from: stored.from,
            counters: LiveCounters {
                ticks: stored.ticks,
                too_late: stored.too_late,
                windows: stored.closed,
                corrections: stored.corrections,
            },
        },
        kept: KeptWindows::decode(view, stored.published, &stored.kept)?,
        definition: stored.definition,
    })
}

/// The messages. Fields are added with new numbers; what a number means never changes.
pub(super) mod stored {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct LivePath {
        #[prost(message, repeated, tag = "1")]
        pub watermarks: Vec<Watermark>,
        #[prost(message, repeated, tag = "2")]
        pub publishers: Vec<Publisher>,
        #[prost(message, repeated, tag = "3")]
        pub views: Vec<View>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Watermark {
        #[prost(string, tag = "1")]
        pub stream: String,
        #[prost(sint64, optional, tag = "2")]
        pub w: Option<i64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Publisher {
        #[prost(string, tag = "1")]
        pub stream: String,
        #[prost(string, tag = "2")]
        pub publisher: String,
        #[prost(bool, tag = "3")]
        pub is_active: bool,
        #[prost(sint64, optional, tag = "4")]
        pub greatest: Option<i64>,
        #[prost(uint64, tag = "5")]
        pub next_sequence: u64,
        #[prost(bytes = "vec", tag = "6")]
        pub beyond: Vec<u8>,
        #[prost(uint64, tag = "7")]
        pub accepted: u64,
        #[prost(uint64, tag = "8")]
        pub late: u64,
        #[prost(uint64, tag = "9")]
        pub duplicate: u64,
        #[prost(uint64, tag = "10")]
        pub conflicting: u64,
        #[prost(uint64, tag = "11")]
        pub lost: u64,
        #[prost(message, repeated, tag = "12")]
        pub rejected: Vec<Rejected>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Rejected {
        #[prost(uint32, tag = "1")]
        pub reason: u32,
        #[prost(uint64, tag = "2")]
        pub rows: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct View {
        #[prost(string, tag = "1")]
        pub definition: String,
        #[prost(bytes = "vec", repeated, tag = "2")]
        pub keys: Vec<Vec<u8>>,
        #[prost(string, repeated, tag = "3")]
        pub publishers: Vec<String>,
        #[prost(uint32, repeated, tag = "4")]
        pub key: Vec<u32>,
        #[prost(sfixed64, repeated, tag = "5")]
        pub start: Vec<i64>,
        #[prost(fixed64, repeated, tag = "6")]
        pub words: Vec<u64>,
        #[prost(message, repeated, tag = "7")]
        pub multisets: Vec<Multiset>,
        #[prost(uint64, tag = "8")]
        pub passed: u64,
        #[prost(uint64, tag = "9")]
        pub unrepresentable: u64,
        #[prost(uint64, tag = "10")]
        pub left_out: u64,
        #[prost(uint32, repeated, tag = "11")]
        pub versions: Vec<u32>,
        #[prost(sint64, optional, tag = "12")]
        pub from: Option<i64>,
        #[prost(uint64, tag = "13")]
        pub ticks: u64,
        #[prost(uint64, tag = "14")]
        pub too_late: u64,
        #[prost(uint64, tag = "15")]
        pub closed: u64,
        #[prost(uint64, tag = "16")]
        pub corrections: u64,
        #[prost(uint64, tag = "17")]
        pub published: u64,
        #[prost(bytes = "vec", repeated, tag = "18")]
        pub kept: Vec<Vec<u8>>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Multiset {
        #[prost(sint64, repeated, tag = "1")]
        pub values: Vec<i64>,
        #[prost(uint64, repeated, tag = "2")]
        pub counts: Vec<u64>,
    }
}

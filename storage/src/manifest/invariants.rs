//! What is true of every manifest, and of every manifest against the one before it.

use std::collections::HashSet;

use super::{HistoryFile, Manifest, Origin, Retired};

/// What every manifest satisfies on its own.
pub(super) fn holds(manifest: &Manifest) -> Result<(), String> {
    let mut paths = HashSet::new();
    for file in manifest.files() {
        if !paths.insert(file.path.as_str()) {
            return Err(format!("{} is listed twice", file.path));
        }
        if file.rows == 0 {
            return Err(format!("{} has no rows", file.path));
        }
        if file.path.starts_with('/') || file.path.split('/').any(|part| part == "..") {
            return Err(format!("{} leads out of the data folder", file.path));
        }
    }
    for Retired { path, .. } in &manifest.retired {
        if !paths.insert(path.as_str()) {
            return Err(format!("{path} is retired and listed"));
        }
        if path.starts_with('/') || path.split('/').any(|part| part == "..") {
            return Err(format!("{path} leads out of the data folder"));
        }
    }
    if !manifest.checkpoints.is_sorted_by_key(|checkpoint| checkpoint.position)
        || manifest.checkpoints.iter().any(|checkpoint| checkpoint.position > manifest.covered)
    {
        return Err("its checkpoints are not of ascending covered positions".to_owned());
    }
    for (definition, record) in &manifest.records {
        if record.covered > manifest.covered {
            return Err(format!("the record of {definition} covers more than the log positions"));
        }
    }
    for (name, stream) in &manifest.streams {
        // Files of one commit share a range; those of later commits come after it.
        let mut last = (0, 0);
        for file in &stream.files {
            if let Some(base) = file.rollups.keys().find(|base| !stream.bases.contains_key(*base)) {
                let path = &file.file.path;
                return Err(format!("{path}: it has states of {base}, which is not known"));
            }
            if file.ts_min > file.ts_max {
                return Err(format!("{}: its times are the wrong way round", file.file.path));
            }
            if let Origin::Log { from, to } = file.origin {
                if from >= to || to > manifest.covered {
                    return Err(format!("{}: its log positions are not covered", file.file.path));
                }
                if (from, to) != last && from < last.1 {
                    return Err(format!("stream {name}: {} repeats log positions", file.file.path));
                }
                last = (from, to);
            }
        }
        for (publisher, imported) in &stream.imported {
            let rejected = imported.rejected.values().try_fold(0_u64, |sum, n| sum.checked_add(*n));
            if rejected.is_none_or(|rejected| rejected > imported.rows) {
                return Err(format!("stream {name}: {publisher} has more rejections than rows"));
            }
        }
    }
    Ok(())
}

/// What every commit keeps of the manifest before it.
pub(super) fn succeeds(next: &Manifest, current: &Manifest) -> Result<(), String> {
    if Some(next.version) != current.version.checked_add(1) {
        return Err(format!("version {} follows {}", next.version, current.version));
    }
    if next.covered < current.covered {
        return Err(format!("it covers {} after {}", next.covered, current.covered));
    }
    if let Some(writer) = &current.writer
        && next
            .writer
            .as_ref()
            .is_none_or(|next| next.folder != writer.folder || next.opened < writer.opened)
    {
        return Err(format!("it is no longer that of data folder {}", writer.folder));
    }
    let newest = |manifest: &Manifest| manifest.checkpoints.last().map(|last| last.position);
    if newest(next) < newest(current) {
        return Err("its checkpoints move back".to_owned());
    }
    for (definition, record) in &current.records {
        let files = next.records.get(definition).map_or(&[][..], |next| &next.files);
        let kept: HashSet<_> = files.iter().map(|file| &file.path).collect();
        // Records go with a stream that is dropped.
        let is_dropped = !next.records.contains_key(definition) && drops_a_stream(next);
        let lost = record.files.iter().find(|file| !kept.contains(&file.path));
        if let Some(lost) = lost.filter(|_| !is_dropped) {
            return Err(format!("{} is lost", lost.path));
        }
    }
    for (name, stream) in &current.streams {
        let files = next.streams.get(name).map_or(&[][..], |next| &next.files);
        let kept: HashSet<_> = files.iter().map(|file| &file.file.path).collect();
        let before = next.streams.get(name).and_then(|next| next.dropped_before);
        // Other files go only for files that hold the same rows.
        let compacted = Origin::Compacted { version: next.version };
        let merged: Vec<_> = files.iter().filter(|file| file.origin == compacted).collect();
        // A commit that merges drops nothing: what came late for days that were dropped before is
        // there, and may be merged.
        let is_dropped = |file: &HistoryFile| {
            is_dropped_now(next, name) || (merged.is_empty() && Some(file.ts_max) < before)
        };
        let lost: Vec<_> = (stream.files.iter())
            .filter(|file| !kept.contains(&file.file.path) && !is_dropped(file))
            .collect();
        let rows = |file: &HistoryFile| u128::from(file.file.rows);
        if merged.iter().map(|file| rows(file)).sum::<u128>()
            != lost.iter().map(|file| rows(file)).sum::<u128>()
        {
            let file = lost.first().map_or(name.as_str(), |lost| &lost.file.path);
            return Err(format!("{file} is lost"));
        }
    }
    for (definition, record) in &current.records {
        let gone = !next.records.contains_key(definition) && drops_a_stream(next);
        let covered = next.records.get(definition).map(|next| next.covered);
        if !gone && covered.is_none_or(|covered| covered < record.covered) {
            return Err(format!("the record of {definition} moves back"));
        }
    }
    for (name, stream) in &current.streams {
        if is_dropped_now(next, name) {
            continue;
        }
        let next = next.streams.get(name).ok_or_else(|| format!("stream {name} is lost"))?;
        if next.dropped_before < stream.dropped_before {
            return Err(format!("stream {name}: what was dropped is back"));
        }
        if next.watermark < stream.watermark {
            return Err(format!("stream {name}: its watermark moves back"));
        }
        for (publisher, imported) in &stream.imported {
            if next.imported.get(publisher).is_none_or(|next| next.rows < imported.rows) {
                return Err(format!("stream {name}: the import of {publisher} shrank"));
            }
        }
    }
    Ok(())
}

/// Whether a manifest is the one that drops a stream.
fn is_dropped_now(next: &Manifest, stream: &str) -> bool {
    next.dropped.get(stream).is_some_and(|dropped| dropped.version == next.version)
        && !next.streams.contains_key(stream)
}

/// Whether a manifest is one that drops some stream.
fn drops_a_stream(next: &Manifest) -> bool {
    next.dropped.values().any(|dropped| dropped.version == next.version)
}

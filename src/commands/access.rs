//! `isotick access`: who may do what.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use isotick_ingest::access::{self, Entry, NewCredential, NewEntry, Pattern, Rights};
use isotick_model::time;
use serde_json::{Value, json};

use crate::cli::{
    AccessAddArgs, AccessArgs, AccessCommand, AccessFileArgs, AccessListArgs, AccessRemoveArgs,
    Expiry,
};
use crate::security::ACCESS_FILE;
use crate::service::now_ns;

pub fn run(args: AccessArgs) -> Result<ExitCode> {
    match args.command {
        AccessCommand::Add(args) => add(args)?,
        AccessCommand::List(args) => list(&args)?,
        AccessCommand::Remove(args) => remove(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl AccessFileArgs {
    fn path(&self) -> PathBuf {
        match (&self.access, &self.data) {
            (Some(file), _) => file.clone(),
            (None, Some(dir)) => dir.join(ACCESS_FILE),
            (None, None) => unreachable!("the command line asks for one of both"),
        }
    }
}

fn add(args: AccessAddArgs) -> Result<()> {
    let path = args.file.path();
    let rights = Rights {
        publish: patterns("--publish", &args.publish)?,
        publishers: patterns("--publisher", &args.publisher)?,
        subscribe: patterns("--subscribe", &args.subscribe)?,
        scan: args.scan,
        admin: args.admin,
    };
    if rights == (Rights { publishers: rights.publishers.clone(), ..Rights::default() }) {
        bail!("no right is given: name some of --publish, --subscribe, --scan, --admin");
    }
    let expires_unix_s = args.expires.map(|end| match end {
        Expiry::In(duration) => now_ns().saturating_add(duration.0).div_euclid(1_000_000_000),
        Expiry::At(time) => time.0.div_euclid(1_000_000_000),
    });
    if expires_unix_s.is_some_and(|end| end <= now_ns().div_euclid(1_000_000_000)) {
        bail!("--expires lies in the past");
    }
    let mut token = None;
    let credential = match (args.certificate_name, args.certificate_fingerprint) {
        (Some(name), _) => NewCredential::CertificateName(name),
        (None, Some(digits)) => NewCredential::CertificateFingerprint(digits),
        (None, None) => {
            let fresh = access::fresh_token()?;
            NewCredential::Token(token.insert(fresh).clone())
        }
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    access::add(&path, &NewEntry { name: args.name.clone(), credential, rights, expires_unix_s })?;
    eprintln!("{} is in {}; a running service takes it up on SIGHUP", args.name, path.display());
    if let Some(token) = token {
        eprintln!("the token, shown this once:");
        println!("{token}");
    }
    Ok(())
}

fn patterns(option: &str, texts: &[String]) -> Result<Vec<Pattern>> {
    let pattern = |text: &String| match Pattern::new(text.as_str()) {
        Some(pattern) => Ok(pattern),
        None => bail!("{option} {text}: `*` stands alone or at the end of a name, as in fx_*"),
    };
    texts.iter().map(pattern).collect()
}

fn list(args: &AccessListArgs) -> Result<()> {
    let path = args.file.path();
    let Some(access) = access::load(&path)? else {
        bail!(
            "there is no {}: a service on this folder lets everybody on its own machine do \
             everything; `isotick access add` makes the file",
            path.display()
        );
    };
    let now_unix_s = now_ns().div_euclid(1_000_000_000);
    if args.json {
        let entries: Vec<_> = access.entries().iter().map(|e| to_json(e, now_unix_s)).collect();
        println!("{}", Value::from(entries));
        return Ok(());
    }
    for entry in access.entries() {
        println!("{}  ({})", entry.name, entry.recognised_by());
        for (right, patterns) in lists(&entry.rights) {
            if !patterns.is_empty() {
                println!("  {right} {}", patterns.join(", "));
            }
        }
        for (right, given) in [("scan", entry.rights.scan), ("admin", entry.rights.admin)] {
            if given {
                println!("  {right}");
            }
        }
        if let Some(end) = entry.expires_unix_s {
            let ended = if end <= now_unix_s { "expired" } else { "expires" };
            println!("  {ended} {}", rfc3339(end));
        }
    }
    Ok(())
}

fn lists(rights: &Rights) -> [(&'static str, Vec<&str>); 3] {
    [
        ("publish", rights.publish.iter().map(Pattern::as_str).collect()),
        ("publishers", rights.publishers.iter().map(Pattern::as_str).collect()),
        ("subscribe", rights.subscribe.iter().map(Pattern::as_str).collect()),
    ]
}

fn to_json(entry: &Entry, now_unix_s: i64) -> Value {
    let [publish, publishers, subscribe] = lists(&entry.rights);
    json!({
        "name": entry.name,
        "recognised_by": entry.recognised_by(),
        "publish": publish.1,
        "publishers": publishers.1,
        "subscribe": subscribe.1,
        "scan": entry.rights.scan,
        "admin": entry.rights.admin,
        "expires": entry.expires_unix_s.map(rfc3339),
        "expired": entry.expires_unix_s.is_some_and(|end| end <= now_unix_s),
    })
}

fn rfc3339(unix_s: i64) -> String {
    time::format_rfc3339(unix_s.saturating_mul(1_000_000_000))
}

fn remove(args: &AccessRemoveArgs) -> Result<()> {
    let path = args.file.path();
    access::remove(&path, &args.name)?;
    eprintln!(
        "{} is no longer in {}; a running service forgets it on SIGHUP",
        args.name,
        path.display()
    );
    Ok(())
}

//! Who is let in, and by which certificate the service is known: what `serve` was told, loaded at
//! start and again on request.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use isotick_ingest::certificates::{self, Files};
use isotick_ingest::{Access, Certificates, access};

use crate::cli::{ClientAuth, SecurityArgs};
use crate::service::now_ns;

/// The access file of a data folder.
pub const ACCESS_FILE: &str = "access.toml";

/// Where rules and certificates come from.
pub struct Security {
    data: PathBuf,
    args: SecurityArgs,
}

impl Security {
    /// As the command line says; what it leaves open is found in the data folder.
    pub fn new(data: &Path, args: SecurityArgs) -> Self {
        Self { data: data.into(), args }
    }

    /// The rules for a service on this address.
    pub fn access(&self, listen: SocketAddr) -> Result<Access> {
        let path = self.access_path();
        match access::load(&path)? {
            Some(_) if self.args.open => bail!(
                "{} says who may do what, and --open lets everybody do everything: leave out \
                 --open, or move the file away",
                path.display()
            ),
            Some(found) => Ok(found),
            None if self.args.access.is_some() => bail!(
                "there is no {}: make it with `isotick access add NAME … --access {}`",
                path.display(),
                path.display()
            ),
            None if !self.args.open && !listen.ip().is_loopback() => bail!(
                "{listen} can be reached by others, and nothing says who may do what: add someone \
                 with `isotick access add NAME --publish STREAM --subscribe VIEW --data {}`, \
                 listen on 127.0.0.1, or let everybody do everything with --open",
                self.data.display()
            ),
            None => Ok(Access::open()),
        }
    }

    /// The rules anew, for a service that has these. A file that is gone changes nothing: it may
    /// be on its way.
    pub fn access_again(&self, old: &Access) -> Result<Access> {
        match access::load(&self.access_path())? {
            Some(found) => Ok(found),
            None if old.is_open() => Ok(Access::open()),
            None => bail!("there is no {} any more", self.access_path().display()),
        }
    }

    /// The certificates: the development one unless others were named.
    pub fn certificates(&self) -> Result<Certificates> {
        let args = &self.args;
        let own = match (&args.cert, &args.key) {
            (Some(certificate), Some(key)) => {
                let files = Files { certificate: certificate.clone(), key: key.clone() };
                certificates::load_production(&files, now_ns() / 1_000_000_000)?
            }
            _ => certificates::load_or_create(&self.data)?,
        };
        Ok(match &args.client_ca {
            None => own,
            Some(ca) => {
                own.with_client_authorities(ca, args.client_auth == ClientAuth::Required)?
            }
        })
    }

    /// What holds, for people.
    pub fn describe(&self, access: &Access, certificates: &Certificates) -> Vec<String> {
        let mut lines = vec![match access.is_open() {
            true => "access: everybody may do everything".to_owned(),
            false => {
                let entries = access.entries().len();
                format!("access: {entries} entries of {}", self.access_path().display())
            }
        }];
        if let Some(path) = &self.args.cert {
            let facts = &certificates.facts;
            let until = facts.not_after_unix_s.saturating_mul(1_000_000_000);
            lines.push(format!(
                "certificate: {} for {}, until {}",
                path.display(),
                facts.names.join(", "),
                isotick_model::time::format_rfc3339(until)
            ));
        }
        if let Some(path) = &self.args.client_ca {
            let asked = match self.args.client_auth {
                ClientAuth::Optional => "may show",
                ClientAuth::Required => "must show",
            };
            lines.push(format!("clients {asked} a certificate of {}", path.display()));
        }
        lines
    }

    fn access_path(&self) -> PathBuf {
        self.args.access.clone().unwrap_or_else(|| self.data.join(ACCESS_FILE))
    }
}

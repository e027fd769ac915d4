//! The access rules as a running service holds them: replaced as a whole, refusals counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use isotick_wire::{Refusal, Role, Token};
use rustls::pki_types::CertificateDer;

use super::{Access, Admitted, Denied, Granted};

/// A shared handle: every clone sees the same rules and counts together.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    access: RwLock<Arc<Access>>,
    unauthenticated: AtomicU64,
    expired: AtomicU64,
    forbidden: AtomicU64,
}

/// Hellos that were refused, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Neither token nor certificate, or none that is known.
    pub unauthenticated: u64,
    /// A token or certificate whose time is over.
    pub expired: u64,
    /// Known, without the right to what they asked for.
    pub forbidden: u64,
}

impl Refusals {
    /// Every counter with its name, for status and metrics.
    pub fn named(&self) -> [(&'static str, u64); 3] {
        [
            ("hellos_unauthenticated", self.unauthenticated),
            ("hellos_expired", self.expired),
            ("hellos_forbidden", self.forbidden),
        ]
    }
}

impl Gate {
    /// A gate with these rules.
    pub fn new(access: Access) -> Self {
        let counter = AtomicU64::default;
        Self(Arc::new(Inner {
            access: RwLock::new(Arc::new(access)),
            unauthenticated: counter(),
            expired: counter(),
            forbidden: counter(),
        }))
    }

    /// The rules now.
    pub fn access(&self) -> Arc<Access> {
        self.0.access.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on these rules hold. Sessions that were let in are not touched: see
    /// [`Edge::recheck`](crate::Edge::recheck).
    pub fn replace(&self, access: Access) {
        *self.0.access.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(access);
    }

    /// [`Access::check`] with the rules now; a refusal is counted.
    ///
    /// # Errors
    ///
    /// What the client is to be told.
    pub fn check(
        &self,
        token: &Token,
        client_certificate: Option<&CertificateDer<'_>>,
        role: &Role,
        now_unix_s: i64,
    ) -> Result<Granted, Refusal> {
        let checked = self.access().check(token, client_certificate, role, now_unix_s);
        checked.map_err(|denied| {
            let counter = match denied {
                Denied::Anonymous | Denied::UnknownToken | Denied::UnknownCertificate => {
                    &self.0.unauthenticated
                }
                Denied::Expired { .. } => &self.0.expired,
                Denied::Forbidden { .. } => &self.0.forbidden,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            denied.to_refusal()
        })
    }

    /// Whether who was let in would be let in by the rules now. Nothing is counted.
    ///
    /// # Errors
    ///
    /// What the client is to be told.
    pub(crate) fn recheck(
        &self,
        admitted: &Admitted,
        client_certificate: Option<&CertificateDer<'_>>,
        now_unix_s: i64,
    ) -> Result<(), Refusal> {
        let Admitted { token, role, .. } = admitted;
        match self.access().check(token, client_certificate, role, now_unix_s) {
            Ok(_) => Ok(()),
            Err(denied @ Denied::Expired { .. }) => Err(denied.to_refusal()),
            Err(denied) => {
                let Refusal { code, text } = denied.to_refusal();
                Err(Refusal::new(code, format!("the access rules were changed: {text}")))
            }
        }
    }

    /// What was refused so far.
    pub fn refusals(&self) -> Refusals {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Refusals {
            unauthenticated: get(&self.0.unauthenticated),
            expired: get(&self.0.expired),
            forbidden: get(&self.0.forbidden),
        }
    }
}

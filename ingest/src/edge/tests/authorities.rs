//! Other authorities come to vouch for clients while their sessions are open.

use std::sync::Arc;

use isotick_wire::{Code, Control, Hello, Role};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;

use super::strangers::Raw;
use super::world::*;
use crate::certificates::{Certificates, ClientAuthorities};

/// Who signs the certificates of clients.
struct Authority(rcgen::Certificate, rcgen::Issuer<'static, rcgen::KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let own = params.self_signed(&key).unwrap();
        Self(own, rcgen::Issuer::new(params, key))
    }

    fn client(&self) -> ClientCertificate {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["client".to_owned()]).unwrap();
        let made = params.signed_by(&key, &self.1).unwrap();
        (vec![made.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

fn vouching(authorities: &[&Authority], required: bool) -> ClientAuthorities {
    let mut roots = RootCertStore::empty();
    authorities.iter().for_each(|authority| roots.add(authority.0.der().clone()).unwrap());
    ClientAuthorities { roots: Arc::new(roots), required }
}

/// The same certificate of the service, and these authorities.
fn replace(world: &World, clients: ClientAuthorities) {
    let own = &world.certificates;
    let certificates = Certificates {
        chain: own.chain.clone(),
        key: own.key.clone_key(),
        fingerprint: own.fingerprint.clone(),
        facts: own.facts.clone(),
        clients: Some(clients),
    };
    world.edge.replace_certificates(&certificates).unwrap();
}

async fn goes_on(session: &mut Raw, rows: std::ops::Range<u64>) {
    let end = rows.end;
    session.frame(&ticks(rows, 0)).await;
    while session.ack().await.received_through < end {}
}

#[test]
fn sessions_end_with_the_authority_that_vouched_for_them() {
    let (ours, next) = (Authority::new("ours"), Authority::new("next"));
    let world = world_of(|_| (), Some(vouching(&[&ours], false)));
    world.client.block_on(async {
        let mut shown = Raw::publish_with(&world, Some(ours.client())).await;
        let mut guest = Raw::publish_with(&world, None).await;

        // While both vouch, clients move from one to the other.
        replace(&world, vouching(&[&next, &ours], false));
        goes_on(&mut shown, 0..1_000).await;
        let mut newcomer = Raw::publish_with(&world, Some(next.client())).await;
        goes_on(&mut guest, 1_000..2_000).await;

        replace(&world, vouching(&[&next], false));
        assert_eq!(shown.end().await, Code::Unauthenticated);
        goes_on(&mut newcomer, 2_000..3_000).await;
        goes_on(&mut guest, 3_000..4_000).await;
        let counted = world.edge.counters();
        assert_eq!((counted.sessions_revoked, counted.sessions_forbidden), (1, 0), "{counted:?}");

        // Its connection is of no use to it any more, until its authority is back.
        let hello = || Control::Hello(Hello::new(Role::Definitions));
        shown.another_stream().await;
        shown.control(hello()).await;
        assert_eq!(shown.end().await, Code::Unauthenticated);
        assert_eq!(world.edge.counters().sessions_forbidden, 1);
        replace(&world, vouching(&[&ours, &next], false));
        goes_on(&mut newcomer, 4_000..5_000).await;
        shown.another_stream().await;
        shown.control(hello()).await;
        assert!(matches!(shown.answer().await, Control::DefinitionsReply(_)));

        // Who has shown none goes when everybody must.
        replace(&world, vouching(&[&ours, &next], true));
        assert_eq!(guest.end().await, Code::Unauthenticated);
        goes_on(&mut newcomer, 5_000..6_000).await;
        assert_eq!(newcomer.finish(None).await.accepted, 6_000);
        assert_eq!(world.edge.counters().sessions_revoked, 2);
    });
}

//! Certificates of both sides, and their reload, through the program.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::access::{add, hang_up};
use super::{DEFINITIONS, Place, Service, WITHIN, csv, ticks};

/// Who signs certificates.
struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names are fine");
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("it signs itself").pem();
        Self { issuer: rcgen::Issuer::new(params, key), pem }
    }

    /// Writes `FILE.pem` and `FILE.key`: a certificate for this name, until this year.
    fn sign(&self, place: &Place, file: &str, name: &str, until: i32) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let made = params.signed_by(&key, &self.issuer).expect("it signs");
        place.write(&format!("{file}.pem"), made.pem());
        place.write(&format!("{file}.key"), key.serialize_pem());
    }
}

const SERVE: &str = "--listen 127.0.0.1:0 --cert own.pem --key own.key";

/// A service's certificate for the loopback address, and the authority as `ca.pem`.
fn place(authority: &Authority) -> Place {
    let place = Place::new(DEFINITIONS);
    place.write("ticks.csv", csv(&ticks(51, 3_000, 10)));
    place.write("ca.pem", &authority.pem);
    authority.sign(&place, "own", "127.0.0.1", 2100);
    place
}

fn publish(service: &Service, more: &str) -> String {
    let to = &service.address;
    format!("publish ticks.csv --stream trades --to {to} --ca ca.pem --json {more}")
}

fn edge(place: &Place, service: &Service, more: &str) -> Value {
    let at = &service.address;
    place.ok(&format!("status --at {at} --ca ca.pem --json {more}")).json()["edge"].clone()
}

/// Waits until the edge's counters are so.
fn eventually(place: &Place, service: &Service, more: &str, name: &str, count: u64) {
    let started = Instant::now();
    loop {
        let edge = edge(place, service, more);
        match edge[name].as_u64() {
            Some(found) if found == count => return,
            found => assert!(found < Some(count), "{edge}"),
        }
        assert!(started.elapsed() < WITHIN, "{name}: {edge}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn clients_are_let_in_by_their_certificates_and_by_no_others() {
    let (ours, foreign) = (Authority::new("ours"), Authority::new("foreign"));
    let place = place(&ours);
    ours.sign(&place, "gateway", "gateway.example", 2100);
    ours.sign(&place, "guest", "guest.example", 2100);
    ours.sign(&place, "old", "gateway.example", 2001);
    foreign.sign(&place, "foreign", "gateway.example", 2100);
    place.ok("access add gateway --publish trades --publisher gw --subscribe bars --data data \
         --certificate-name gateway.example");
    let ops = add(&place, "ops", "--admin");
    let with = |name: &str| format!("--cert {name}.pem --key {name}.key");
    let (gateway, ops) = (with("gateway"), format!("{} --token {ops}", with("guest")));

    let service =
        place.serve_with("data", &format!("{SERVE} --client-ca ca.pem --client-auth required"));
    let said = service.running.err_so_far();
    assert!(said.contains("clients must show a certificate of ca.pem"), "{said}");
    let none = publish(&service, "--publisher gw");
    place.refuse(&none, &["certificate", "there is none: pass one with `--cert` and `--key`"]);
    let (old, stranger) = (with("old"), with("foreign"));
    for (shown, reason) in
        [(&old, "it has expired"), (&stranger, "does not know the authority that signed it")]
    {
        place.refuse(&publish(&service, &format!("--publisher gw {shown}")), &[reason]);
    }
    // Counted when their last packets have gone.
    eventually(&place, &service, &ops, "handshakes_failed", 3);
    // Who is known to the authority and not to the service gets no further.
    let guest = format!("--publisher gw {}", with("guest"));
    place.refuse(&publish(&service, &guest), &["the client certificate has no rights here"]);
    let other = publish(&service, &format!("--publisher other {gateway}"));
    place.refuse(&other, &["no right to publish to `trades` as `other`"]);
    let report = place.ok(&publish(&service, &format!("--publisher gw {gateway}"))).json();
    assert_eq!(report["accepted"], 3_000, "{report}");
    let tail = format!("tail bars --at {} --ca ca.pem {gateway}", service.address);
    let tailed = place.ok(&format!("{tail} --from-cursor 0 --until-idle 1s --format csv"));
    assert!(tailed.out.lines().count() > 7, "{tailed}");
    let counted = edge(&place, &service, &ops);
    assert_eq!(counted["hellos_unauthenticated"], 1, "{counted}");
    assert_eq!(counted["hellos_forbidden"], 1, "{counted}");
    assert_eq!(counted["handshakes_failed"], 3, "{counted}");
    service.stop();

    // Where certificates are optional a token does as well; a wrong certificate does not.
    let token = add(&place, "feed", "--publish trades");
    let service = place.serve_with("data", &format!("{SERVE} --client-ca ca.pem"));
    let said = service.running.err_so_far();
    assert!(said.contains("clients may show a certificate of ca.pem"), "{said}");
    for shown in [format!("--publisher t --token {token}"), format!("--publisher gw {gateway}")] {
        place.ok(&publish(&service, &shown));
    }
    place.refuse(&publish(&service, "--publisher t"), &["token or a client certificate"]);
    let expired = publish(&service, &format!("--publisher t --token {token} {old}"));
    place.refuse(&expired, &["it has expired"]);
    eventually(&place, &service, &ops, "handshakes_failed", 1);
    service.stop();
    assert_eq!(place.ticks("data"), 6_000);
}

fn fingerprint(said: &str, of: &str) -> String {
    let line = said.lines().rev().find_map(|line| line.strip_prefix(of)).expect("it says so");
    assert_eq!(line.len(), 64, "{line}");
    line.to_owned()
}

#[test]
fn certificates_are_replaced_while_sessions_go_on() {
    const REPLACED: &str = "the certificates were read again: ";
    const KEPT: &str = "the certificates stay as they were";
    let (ours, next) = (Authority::new("ours"), Authority::new("next"));
    let place = place(&ours);
    place.write("long.csv", csv(&ticks(52, 24_000, 10)));
    ours.sign(&place, "client", "client.example", 2100);
    next.sign(&place, "newcomer", "client.example", 2100);
    place.write("clients.pem", &ours.pem);
    let serve = format!("{SERVE} --client-ca clients.pem --client-auth required");
    let mut service = place.serve_with("data", &serve);
    let first = fingerprint(&service.running.err_so_far(), "certificate fingerprint: ");
    let client = "--cert client.pem --key client.key";
    let to = service.address.clone();
    let mut publisher = place.start(&format!(
        "publish long.csv --stream trades --to {to} --ca ca.pem {client} --json --no-reconnect \
         --rate 1000/s"
    ));
    // The publisher's, and that of who asks.
    eventually(&place, &service, client, "sessions_open", 2);
    let seen = |service: &Service, pinned: &str, shown: &str| {
        let at = &service.address;
        place.run(&format!("status --at {at} --fingerprint {pinned} {shown} --json"))
    };
    seen(&service, &first, client).succeeded();

    // Another certificate, and another authority beside the one that vouches for the publisher.
    ours.sign(&place, "own", "127.0.0.1", 2101);
    place.write("clients.pem", format!("{}{}", ours.pem, next.pem));
    hang_up(&mut service, REPLACED);
    let second = fingerprint(&service.running.err_so_far(), REPLACED);
    assert_ne!(first, second);
    let newcomer = "--cert newcomer.pem --key newcomer.key";
    seen(&service, &second, newcomer).succeeded();
    let pinned = seen(&service, &first, newcomer);
    assert_eq!(pinned.code, Some(1), "{pinned}");
    assert!(pinned.err.contains(&second), "another certificate is named: {pinned}");
    seen(&service, &second, client).succeeded();

    // Broken, of another key, expired, gone: each is named, and changes nothing.
    let good = std::fs::read(place.path("own.pem")).expect("it is there");
    let keep = |service: &mut Service, words: &[&str]| {
        hang_up(service, KEPT);
        let said = service.running.err_so_far();
        let line = said.lines().rev().find(|line| line.contains(KEPT)).expect("it says so");
        for word in words {
            assert!(line.contains(word), "no `{word}`: {line}");
        }
        seen(service, &second, newcomer).succeeded();
    };
    place.write("own.pem", "-----BEGIN CERTIFICATE-----\ngarbage\n");
    keep(&mut service, &["own.pem holds no valid certificate"]);
    place.write("own.pem", std::fs::read(place.path("client.pem")).expect("it is there"));
    keep(&mut service, &["own.key", "does not belong to the certificate"]);
    place.write("own.pem", &good);
    place.write("clients.pem", "");
    keep(&mut service, &["clients.pem holds no valid certificate of an authority"]);
    std::fs::remove_file(place.path("clients.pem")).expect("it is there");
    keep(&mut service, &["cannot read clients.pem"]);
    let key = std::fs::read(place.path("own.key")).expect("it is there");
    ours.sign(&place, "own", "127.0.0.1", 2020);
    keep(&mut service, &["own.pem expired at 2020-01-01"]);
    place.write("own.pem", &good);
    place.write("own.key", key);
    place.write("clients.pem", format!("{}{}", next.pem, ours.pem));
    hang_up(&mut service, REPLACED);
    assert_eq!(fingerprint(&service.running.err_so_far(), REPLACED), second);
    assert!(publisher.is_running(), "the session from before all that goes on");

    // Nobody vouches for the publisher any more: it is told so, and nothing of it is lost.
    place.write("clients.pem", &next.pem);
    hang_up(&mut service, REPLACED);
    let ended = publisher.end();
    assert_eq!(ended.code, Some(1), "{ended}");
    assert!(ended.err.contains("other authorities vouch for clients now"), "{ended}");
    let refused = seen(&service, &second, client);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(refused.err.contains("does not know the authority that signed it"), "{refused}");
    let counted = &seen(&service, &second, newcomer).succeeded().json()["edge"];
    assert_eq!(counted["sessions_revoked"], 1, "{counted}");
    let resumed =
        format!("publish long.csv --stream trades --to {to} --ca ca.pem {newcomer} --json");
    let report = place.ok(&resumed).json();
    assert!(report["resumed_at"].as_u64() > Some(0), "{report}");
    assert_eq!(report["accepted"], 24_000, "{report}");
    service.stop();
    place.verified("bars", "data");
}

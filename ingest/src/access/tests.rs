use isotick_model::PublisherId;
use isotick_wire::{SubmitJob, Subscribe};

use super::*;

const NOW: i64 = 1_800_000_000;

fn entry(name: &str, token: &str, rights: Rights) -> Entry {
    let credential = Credential::Token(digest_of(token.as_bytes()));
    Entry { name: name.into(), credential, rights, expires_unix_s: None }
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::new(*text).unwrap()).collect()
}

fn publish(stream: &str, publisher: &str) -> Role {
    let publisher = PublisherId::new(publisher).unwrap();
    Role::Publish { stream: stream.into(), publisher, datagrams: false }
}

fn submit(views: &[&str]) -> Role {
    Role::Jobs(JobRequest::Submit(SubmitJob::new(views.iter().copied())))
}

fn subscribe(view: &str) -> Role {
    Role::Subscribe(Subscribe::new(view))
}

#[test]
fn rights_reach_as_far_as_they_say() {
    let feed = Rights {
        publish: patterns(&["trades", "fx_*"]),
        publishers: patterns(&["feed-a*"]),
        ..Rights::default()
    };
    let reader = Rights { subscribe: patterns(&["bars_1s"]), ..Rights::default() };
    let all = Rights { subscribe: patterns(&["*"]), scan: true, ..Rights::default() };
    let admin = Rights { admin: true, ..Rights::default() };
    let access = Access::of(vec![
        entry("feed", "f", feed),
        entry("reader", "r", reader),
        entry("all", "a", all),
        entry("admin", "x", admin),
    ]);
    let roles = [
        publish("trades", "feed-a"),
        publish("fx_eur", "feed-a/1"),
        publish("trades", "feed-b"),
        publish("quotes", "feed-a"),
        subscribe("bars_1s"),
        subscribe("bars_1sx"),
        Role::Status,
        Role::Definitions,
        submit(&["bars_1s"]),
        Role::Jobs(JobRequest::List),
    ];
    for (token, allowed) in
        [("f", "yynnnnnynn"), ("r", "nnnnynnynn"), ("a", "nnnnyynyyy"), ("x", "yyyyyyyyyy")]
    {
        for (role, allowed) in roles.iter().zip(allowed.chars()) {
            let checked = access.check(&Token::new(token), None, role, NOW);
            assert_eq!(checked.is_ok(), allowed == 'y', "{token} {role:?}: {checked:?}");
            if let Err(denied) = checked {
                assert_eq!(denied.to_refusal().code, Code::Forbidden);
            }
        }
    }
}

#[test]
fn jobs_belong_to_who_asked_for_them() {
    let scan = Rights { scan: true, ..Rights::default() };
    let admin = Rights { admin: true, ..Rights::default() };
    let access = Access::of(vec![entry("quant", "q", scan), entry("boss", "b", admin)]);
    let owner = |access: &Access, token: &str| {
        let granted = access.check(&Token::new(token), None, &submit(&["bars"]), NOW).unwrap();
        JobOwner::from(granted)
    };
    let quant = owner(&access, "q");
    assert_eq!((quant.name.as_str(), quant.is_admin), ("quant", false));
    assert!(quant.may_scan("bars") && quant.may_touch("quant") && !quant.may_touch("boss"));
    let boss = owner(&access, "b");
    assert!(boss.is_admin && boss.may_touch("quant") && boss.may_scan("bars"));
    let anyone = owner(&Access::open(), "");
    assert_eq!((anyone.name.as_str(), anyone.is_admin), (JobOwner::ANYONE, true));
    assert!(!is_entry_name(JobOwner::ANYONE));
}

#[test]
fn a_scan_that_is_refused_names_what_was_asked_for() {
    let rights = Rights { subscribe: patterns(&["*"]), ..Rights::default() };
    let access = Access::of(vec![entry("reader", "r", rights)]);
    let refused = |role: &Role| {
        let denied = access.check(&Token::new("r"), None, role, NOW).unwrap_err();
        assert_eq!(denied.to_refusal().code, Code::Forbidden);
        denied.to_string()
    };
    let text = refused(&submit(&["bars", "x\ny"]));
    assert!(text.contains("scan `bars`, `x\\ny`:"), "{text}");
    let text = refused(&Role::Jobs(JobRequest::List));
    assert!(text.contains("no right to scan"), "{text}");
    let granted = access.check(&Token::new("r"), None, &subscribe("bars"), NOW).unwrap();
    assert!(!granted.may_scan("bars"));
}

#[test]
fn who_is_not_known_learns_nothing() {
    let rights = Rights { publish: patterns(&["trades"]), ..Rights::default() };
    let mut ended = entry("ended", "old", rights.clone());
    ended.expires_unix_s = Some(NOW);
    let access = Access::of(vec![entry("secret-name", "right", rights), ended]);
    let check = |token: &str, role: &Role| access.check(&Token::new(token), None, role, NOW);
    assert_eq!(check("", &Role::Definitions), Err(Denied::Anonymous));
    for wrong in ["righ", "right ", "Right", &"r".repeat(TOKEN_BYTES_MAX + 1)] {
        assert_eq!(check(wrong, &Role::Definitions), Err(Denied::UnknownToken));
    }
    let expired = check("old", &publish("trades", "p")).unwrap_err();
    assert_eq!(expired, Denied::Expired { what: "token" });
    assert_eq!(expired.to_refusal().code, Code::Unauthenticated);
    let before = access.check(&Token::new("old"), None, &publish("trades", "p"), NOW - 1);
    assert_eq!(before.unwrap().name, "ended");
    for denied in [
        check("", &subscribe("bars")),
        check("wrong", &subscribe("bars")),
        check("right", &subscribe("bars")),
        check("right", &Role::Status),
    ] {
        let text = denied.unwrap_err().to_string();
        for secret in ["secret-name", "right,", "trades", "ended"] {
            assert!(!text.contains(secret), "`{text}` gives away {secret}");
        }
    }
}

#[test]
fn names_are_shown_to_those_who_may_know_them() {
    let text = r#"
        [stream.trades]
        time = "ts"
        columns = { price = { scale = 2 } }
        [stream.orders]
        time = "ts"
        columns = { price = { scale = 2 } }
        [view.bars]
        stream = "trades"
        window = { tumbling = "1s" }
        aggregates = ["count()"]
        [view.flow]
        stream = "orders"
        window = { tumbling = "1s" }
        aggregates = ["count()"]
    "#;
    let names = |rights: Rights| {
        let access = Access::of(vec![entry("a", "a", rights)]);
        let granted = access.check(&Token::new("a"), None, &Role::Definitions, NOW).unwrap();
        let known = Definitions::parse(&granted.definitions(text.into()), "known").unwrap();
        let mut names: Vec<_> = known.streams.into_iter().map(|stream| stream.name).collect();
        names.extend(known.views.into_iter().map(|view| view.name));
        let refusal = Refusal::new(Code::UnknownView, "unknown view x; there is bars, flow");
        (names.join(" "), granted.conceal(refusal).text.contains("flow"))
    };
    let lists = |publish: &[&str], subscribe: &[&str]| Rights {
        publish: patterns(publish),
        subscribe: patterns(subscribe),
        ..Rights::default()
    };
    assert_eq!(names(lists(&["orders"], &[])), ("orders".into(), false));
    assert_eq!(names(lists(&[], &["bars"])), ("trades bars".into(), false));
    assert_eq!(names(lists(&["orders"], &["b*"])), ("trades orders bars".into(), false));
    assert_eq!(names(Rights::default()), (String::new(), false));
    let scan = Rights { scan: true, ..Rights::default() };
    assert_eq!(names(scan), ("trades orders bars flow".into(), true));
}

#[test]
fn the_file_is_read_as_it_says_and_wrong_places_are_named() {
    let digest = hex_of("t");
    let good = format!(
        "# who\n[token.feed-a]\nsha256 = \"{digest}\"\npublish = [\"*\"]\n\
         expires = \"2027-01-15T08:00:00Z\"\n\n[certificate.gate]\nname = \"gate.example\"\nadmin = true\n"
    );
    let access = Access::parse(&good, "access.toml").unwrap();
    let [token, certificate] = access.entries() else { panic!("{access:?}") };
    assert_eq!(token.expires_unix_s, Some(NOW));
    assert_eq!(token.rights.publish, patterns(&["*"]));
    assert_eq!(certificate.credential, Credential::CertificateName("gate.example".into()));
    for (text, line, message) in [
        ("[token.a]\nsha = \"\"".into(), 2, "unknown field `sha`"),
        ("[user.a]".into(), 1, "unknown field `user`"),
        ("\n[token.a]\npublish = []".into(), 2, "`sha256` is missing"),
        ("[token.a]\nsha256 = \"abc\"".into(), 2, "64 hex digits"),
        (format!("[token.a]\nsha256 = \"{digest}\"\npublish = [\n\"a*b\"]"), 4, "`publish` lists"),
        (format!("[token.a]\nsha256 = \"{digest}\"\nname = \"x\""), 3, "belongs to certificates"),
        (format!("[token.a]\nsha256 = \"{digest}\"\nexpires = \"soon\""), 3, "`expires`"),
        (format!("[token.\"a b\"]\nsha256 = \"{digest}\""), 1, "`a b` is no name"),
        ("[certificate.a]\nadmin = true".into(), 1, "either `name`"),
        (
            format!("[token.a]\nsha256 = \"{digest}\"\n[token.b]\nsha256 = \"{digest}\""),
            1,
            "`a` and `b` are recognised by the same",
        ),
        ("[token.a]\nadmin = 1".into(), 2, "invalid type"),
        ("nonsense".into(), 1, ""),
    ] {
        let error = Access::parse(&text, "access.toml").unwrap_err().to_string();
        let expected = format!("access.toml:{line}: ");
        assert!(error.starts_with(&expected) && error.contains(message), "{text}: {error}");
    }
}

fn hex_of(token: &str) -> String {
    certificates::hex(&digest_of(token.as_bytes()))
}

#[test]
fn entries_are_added_and_removed_and_the_rest_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.toml");
    assert!(load(&path).unwrap().is_none());
    let new = |name: &str, credential| NewEntry {
        name: name.into(),
        credential,
        rights: Rights { publish: patterns(&["trades", "fx_*"]), scan: true, ..Rights::default() },
        expires_unix_s: Some(NOW),
    };
    let secret = fresh_token().unwrap();
    assert_ne!(secret, fresh_token().unwrap());
    assert_eq!(secret.len(), TOKEN_LENGTH);
    add(&path, &new("one", NewCredential::Token(secret.clone()))).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains(&secret), "the token is kept nowhere");
    std::fs::write(&path, format!("# kept\n{text}  # kept too\n")).unwrap();
    add(&path, &new("two", NewCredential::CertificateName("a \"b\"".into()))).unwrap();
    let access = load(&path).unwrap().unwrap();
    let granted =
        access.check(&Token::new(&*secret), None, &publish("fx_eur", "p"), NOW - 1).unwrap();
    assert_eq!(granted.name, "one");
    assert_eq!(access.entries()[1].credential, Credential::CertificateName("a \"b\"".into()));
    let taken = add(&path, &new("one", NewCredential::Token("x".into()))).unwrap_err();
    assert!(matches!(taken, AccessError::Taken { .. }), "{taken}");
    let name = add(&path, &new("a.b", NewCredential::Token("x".into()))).unwrap_err();
    assert!(matches!(name, AccessError::Name { .. }), "{name}");
    remove(&path, "one").unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("# kept\n") && !text.contains("[token.one]"), "{text}");
    assert_eq!(load(&path).unwrap().unwrap().entries().len(), 1);
    let gone = remove(&path, "one").unwrap_err();
    assert!(matches!(gone, AccessError::NoSuchEntry { .. }), "{gone}");
    std::fs::write(&path, format!("token.x = {{ sha256 = \"{}\" }}", hex_of("x"))).unwrap();
    let odd = remove(&path, "x").unwrap_err();
    assert!(matches!(odd, AccessError::NotATable { .. }), "{odd}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        add(&path, &new("three", NewCredential::Token("y".into()))).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

/// The prefix and 64 digits.
const TOKEN_LENGTH: usize = 8 + 64;

fn certificate(names: &[&str]) -> CertificateDer<'static> {
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2030, 1, 1);
    params.self_signed(&key).unwrap().der().clone()
}

#[test]
fn certificates_are_recognised_by_name_or_fingerprint() {
    let (gate, other) = (certificate(&["gate.example", "10.0.0.7"]), certificate(&["other"]));
    let rights = |view: &str| Rights { subscribe: patterns(&[view]), ..Rights::default() };
    let of = |name: &str, credential, rights| Entry {
        name: name.into(),
        credential,
        rights,
        expires_unix_s: None,
    };
    let by_name = |name: &str| Credential::CertificateName(name.into());
    let fingerprint = Credential::CertificateFingerprint(digest_of(&gate));
    let access = Access::of(vec![
        of("gate", by_name("10.0.0.7"), rights("a")),
        of("exactly-gate", fingerprint, rights("b")),
        entry("token", "t", rights("c")),
    ]);
    let check = |certificate: &CertificateDer<'static>, token: &str, view: &str, now| {
        access.check(&Token::new(token), Some(certificate), &subscribe(view), now)
    };
    assert_eq!(check(&gate, "", "b", NOW).unwrap().name, "exactly-gate");
    assert!(matches!(check(&gate, "", "a", NOW), Err(Denied::Forbidden { .. })));
    assert_eq!(check(&gate, "t", "c", NOW).unwrap().name, "token", "a token decides alone");
    assert_eq!(check(&gate, "wrong", "b", NOW), Err(Denied::UnknownToken));
    assert_eq!(check(&other, "", "a", NOW), Err(Denied::UnknownCertificate));
    let ended = Err(Denied::Expired { what: "client certificate" });
    assert_eq!(check(&gate, "", "b", 2_000_000_000), ended);
    let garbage = CertificateDer::from(vec![1, 2, 3]);
    assert_eq!(check(&garbage, "", "b", NOW), Err(Denied::UnknownCertificate));
}

#[test]
fn the_gate_counts_by_reason_and_changes_as_a_whole() {
    let rights = Rights { subscribe: patterns(&["bars"]), ..Rights::default() };
    let mut ended = entry("ended", "old", rights.clone());
    ended.expires_unix_s = Some(NOW);
    let gate = Gate::new(Access::open());
    let check = |token: &str, role| gate.check(&Token::new(token), None, &role, NOW).is_ok();
    assert!(check("", Role::Status), "open");
    gate.replace(Access::of(vec![entry("a", "t", rights), ended]));
    assert!(!check("", subscribe("bars")));
    assert!(!check("wrong", subscribe("bars")));
    assert!(!check("old", subscribe("bars")));
    assert!(!check("t", subscribe("other")));
    assert!(check("t", subscribe("bars")));
    let refusals = Refusals { unauthenticated: 2, expired: 1, forbidden: 1 };
    assert_eq!(gate.refusals(), refusals);
}

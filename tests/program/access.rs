//! Who may do what: tokens, rights and their reload, through the program.

use serde_json::Value;

use super::{DEFINITIONS, Place, Service, csv, ticks};

/// Adds an entry and returns its token.
pub fn add(place: &Place, name: &str, rights: &str) -> String {
    let added = place.ok(&format!("access add {name} {rights} --data data"));
    let token = added.out.trim().to_owned();
    assert!(token.starts_with("isotick_") && !added.err.contains(&token), "{added}");
    token
}

/// SIGHUP, and a wait until the service has said these words again.
pub fn hang_up(service: &mut Service, said: &str) {
    let before = service.running.err_so_far().matches(said).count();
    let id = service.running.id().to_string();
    let status = std::process::Command::new("kill").args(["-HUP", &id]).status();
    assert!(status.expect("kill runs").success());
    service.running.wait_for(|text| (text.matches(said).count() > before).then_some(()));
}

pub fn status(place: &Place, service: &Service, token: &str) -> Value {
    place.ok(&format!("status --at {} --token {token} --json", service.address)).json()
}

#[test]
fn only_who_may_gets_in_and_everything_else_is_refused_and_counted() {
    let place = Place::new(DEFINITIONS);
    place.write("ticks.csv", csv(&ticks(5, 500, 10)));
    let feed = add(&place, "feed-secret", "--publish trades --publisher feed*");
    let desk = add(&place, "desk", "--subscribe bars");
    let ops = add(&place, "ops", "--admin");
    let old = add(&place, "old", "--publish trades");
    let file = place.path("data/access.toml");
    let text = std::fs::read_to_string(&file).expect("it was written");
    for token in [&feed, &desk, &ops, &old] {
        assert!(!text.contains(token.as_str()), "the token itself is kept: {text}");
    }
    std::fs::write(&file, text + "expires = \"2020-01-01T00:00:00Z\"\n").expect("writable");
    let listed = place.ok("access list --data data");
    for said in ["feed-secret", "publish trades", "subscribe bars", "expired 2020-01-01"] {
        assert!(listed.out.contains(said), "no `{said}`: {listed}");
    }

    let mut service = place.serve("data");
    let publish = |publisher: &str, token: &str| {
        let to = &service.address;
        let token = if token.is_empty() { String::new() } else { format!("--token {token}") };
        format!(
            "publish ticks.csv --stream trades --to {to} --publisher {publisher} {token} --json"
        )
    };
    let tail = |view: &str, token: &str| {
        format!("tail {view} --at {} --token {token} --until-idle 1s", service.address)
    };
    let to = &service.address;
    let unnamed = format!("publish ticks.csv --stream trades --to {to} --token {feed} --json");
    let refusals = [
        (publish("feed", ""), "token or a client certificate"),
        (publish("feed", "isotick_0000"), "not one of this service's"),
        (publish("feed", &old), "has expired"),
        (publish("feed", &desk), "no right to publish to `trades`"),
        (publish("other", &feed), "no right to publish to `trades` as `other`"),
        (unnamed, "--publisher NAME"),
        (tail("all", &desk), "no right to subscribe to `all`"),
        (tail("nothing", &desk), "no right to subscribe to `nothing`"),
        (format!("status --at {} --token {feed}", service.address), "service's status"),
    ];
    for (command, said) in &refusals {
        let refused = place.refuse(command, &[said]);
        for secret in ["feed-secret", "bars", &feed, &desk] {
            assert!(!refused.err.contains(secret), "`{secret}` is given away: {refused}");
        }
    }
    let (publish_feed, tail_bars) = (publish("feed", &feed), tail("bars", &desk));
    assert_eq!(place.ok(&publish_feed).json()["accepted"], 500);
    place.ok(&tail_bars);
    let edge = &status(&place, &service, &ops)["edge"];
    assert_eq!(edge["hellos_unauthenticated"], 2, "{edge}");
    assert_eq!(edge["hellos_expired"], 1, "{edge}");
    assert_eq!(edge["hellos_forbidden"], 6, "{edge}");
    assert_eq!(edge["sessions_forbidden"], 9, "{edge}");

    place.ok("access remove feed-secret --data data");
    place.ok(&publish_feed);
    hang_up(&mut service, "the access rules were read again");
    place.refuse(&publish_feed, &["not one of this service's"]);
    std::fs::write(&file, "[token.broken]\n").expect("writable");
    hang_up(&mut service, "the access rules stay as they were");
    let said = service.running.err_so_far();
    assert!(said.contains("access.toml:1: the field `sha256` is missing"), "{said}");
    status(&place, &service, &ops);
    service.stop();
}

/// Sessions end with the rights that they were let in by, those of others go on, and nothing that
/// was acknowledged is lost.
#[test]
fn a_right_that_is_taken_away_ends_what_goes_on_by_it() {
    let place = Place::new(DEFINITIONS);
    place.write("ticks.csv", csv(&ticks(6, 40_000, 10)));
    let feed = add(&place, "feed", "--publish trades --publisher feed");
    let other = add(&place, "other", "--publish trades --publisher other --subscribe all");
    let desk = add(&place, "desk", "--subscribe bars");
    let ops = add(&place, "ops", "--admin");
    // The revoked publisher is idle long before the other is done.
    let mut service = place.serve_with("data", "--listen 127.0.0.1:0 --idle-after 2s");
    let to = service.address.clone();
    let publish = |name: &str, token: &str| {
        place.start(&format!(
            "publish ticks.csv --stream trades --to {to} --publisher {name} --token {token} --json \
             --rate 4000/s"
        ))
    };
    let (revoked, mut kept) = (publish("feed", &feed), publish("other", &other));
    let tail = |token: &str| place.start(&format!("tail bars --at {to} --token {token} --resume"));
    let (mut watching, watching_still) = (tail(&desk), tail(&ops));
    let started = std::time::Instant::now();
    let accepted = |status: &Value, name: &str| {
        let publishers = status["streams"]["trades"]["publishers"].as_array();
        let found = publishers.into_iter().flatten().find(|known| known["publisher"] == name);
        found.and_then(|known| known["accepted"].as_u64()).unwrap_or(0)
    };
    loop {
        let status = status(&place, &service, &ops);
        let both = ["feed", "other"].map(|name| accepted(&status, name));
        if both.iter().all(|rows| *rows > 50) && status["views"]["bars"]["subscribers"] == 2 {
            break;
        }
        let said = [watching.err_so_far(), watching_still.err_so_far()];
        assert!(started.elapsed() < super::WITHIN, "no ticks come: {status}\n{said:?}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    place.ok("access remove feed --data data");
    hang_up(&mut service, "the access rules were read again");
    let ended = revoked.end();
    assert_eq!(ended.code, Some(1), "{ended}");
    let why = "the access rules were changed: the token is not one of this service's";
    assert!(ended.err.contains(why), "{ended}");
    let counted = status(&place, &service, &ops);
    assert_eq!(counted["edge"]["sessions_revoked"], 1, "{counted}");
    assert!(kept.is_running() && watching.is_running());
    // The right to one thing goes, the entry stays.
    let file = place.path("data/access.toml");
    let rules = std::fs::read_to_string(&file).expect("it is there");
    let rules = rules.replace("subscribe = [\"bars\"]", "subscribe = [\"all\"]");
    assert!(rules.matches("subscribe = [\"all\"]").count() == 2, "{rules}");
    std::fs::write(&file, rules).expect("writable");
    hang_up(&mut service, "the access rules were read again");
    let ended = watching.end();
    assert_eq!(ended.code, Some(1), "{ended}");
    assert!(ended.err.contains("changed: no right to subscribe to `bars`"), "{ended}");
    let report = kept.end().succeeded().json();
    assert_eq!(report["accepted"], 40_000, "{report}");
    let counted = status(&place, &service, &ops);
    let edge = &counted["edge"];
    assert_eq!([&edge["sessions_revoked"], &edge["sessions_forbidden"]], [2, 0], "{edge}");
    let of_feed = accepted(&counted, "feed");
    assert!((50..40_000).contains(&of_feed), "{counted}");
    // What the revoked publisher held open closes when it counts as idle.
    let told = || watching_still.out_so_far().lines().count();
    let started = std::time::Instant::now();
    while told() <= 7 {
        let (said, told) = (watching_still.err_so_far(), watching_still.out_so_far());
        let waited = started.elapsed() < super::WITHIN;
        assert!(waited, "who may goes on: {said}\n{told}\n{}", status(&place, &service, &ops));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    service.stop();
    assert_eq!(place.ticks("data"), 40_000 + of_feed);
    place.verified("bars", "data");
}

#[test]
fn an_address_that_others_reach_needs_rules_or_a_word() {
    let place = Place::new(DEFINITIONS);
    let serve = "serve --data data --listen 0.0.0.0:0 --engine cpu";
    place.refuse(serve, &["can be reached by others", "isotick access add", "--open"]);
    place.refuse("serve --data data --access none.toml", &["there is no none.toml"]);
    let pem = "serve --data data --cert no.pem --key no.key";
    place.refuse(pem, &["cannot read no.pem"]);
    let service = place.serve_at("data", "0.0.0.0:0 --open");
    service.stop();
    add(&place, "ops", "--admin");
    place.refuse(&format!("{serve} --open"), &["leave out --open"]);
    place.serve_at("data", "0.0.0.0:0").stop();
}

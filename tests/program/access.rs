//! Who may do what: tokens, rights and their reload, through the program.

use serde_json::Value;

use super::{DEFINITIONS, Place, Service, csv, ticks};

/// Adds an entry and returns its token.
fn add(place: &Place, name: &str, rights: &str) -> String {
    let added = place.ok(&format!("access add {name} {rights} --data data"));
    let token = added.out.trim().to_owned();
    assert!(token.starts_with("isotick_") && !added.err.contains(&token), "{added}");
    token
}

fn hang_up(service: &mut Service, said: &str) {
    let before = service.running.err_so_far().matches(said).count();
    let id = service.running.id().to_string();
    let status = std::process::Command::new("kill").args(["-HUP", &id]).status();
    assert!(status.expect("kill runs").success());
    service.running.wait_for(|text| (text.matches(said).count() > before).then_some(()));
}

fn status(place: &Place, service: &Service, token: &str) -> Value {
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
    let refusals = [
        (publish("feed", ""), "token or a client certificate"),
        (publish("feed", "isotick_0000"), "not one of this service's"),
        (publish("feed", &old), "has expired"),
        (publish("feed", &desk), "no right to publish to `trades`"),
        (publish("other", &feed), "no right to publish to `trades` as `other`"),
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
    assert_eq!(edge["hellos_forbidden"], 5, "{edge}");
    assert_eq!(edge["sessions_forbidden"], 8, "{edge}");

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

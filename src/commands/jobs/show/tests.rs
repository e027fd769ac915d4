use super::*;

fn job(json: &str) -> JobStatus {
    JobStatus::parse(json).unwrap()
}

fn running() -> JobStatus {
    job(r#"{"id":"ab12","state":"running","owner":"q","owners":["q","r"],
        "views":[{"view":"bars_1m"},{"view":"bars_1h"}],"rows":{"done":1500000,"total":6000000},
        "parts":{"done":1,"total":4},"rows_per_s":2500000,"remaining_seconds":1.8,
        "submitted":"2024-01-02T03:04:05.678901234Z"}"#)
}

#[test]
fn a_line_says_how_far_a_job_is() {
    assert_eq!(
        line(&running()),
        "running  1,500,000/6,000,000 rows  1/4 parts  2.5 M rows/s  1.8 s left"
    );
    let standing = |json: &str| standing(&job(json));
    assert_eq!(standing(r#"{"id":"a","state":"queued","position":0}"#), "queued, next");
    assert_eq!(standing(r#"{"id":"a","state":"queued","position":12}"#), "queued, 12 before it");
    assert_eq!(standing(r#"{"id":"a","state":"queued"}"#), "queued");
    assert_eq!(standing(r#"{"id":"a","state":"failed","error":"no disk"}"#), "failed: no disk");
    let cached = r#"{"id":"a","state":"done","cached":true}"#;
    assert_eq!(standing(cached), "done: an earlier scan had the result");
}

#[test]
fn a_table_is_aligned() {
    let old = job(r#"{"id":"d","state":"done","owner":"me","rows":{"done":0,"total":0}}"#);
    let queued = job(r#"{"id":"c","state":"queued","position":7,"owner":"somebody"}"#);
    let text = table(&[running(), queued, old]);
    assert_eq!(
        text,
        "\
id    state       owner     views             rows     rate   left  submitted
ab12  running     q r       bars_1m bars_1h   25 %  2.5 M/s  1.8 s  2024-01-02T03:04:05Z
c     queued (7)  somebody
d     done        me                         100 %
"
    );
}

#[test]
fn everything_that_is_known_is_shown_and_nothing_else() {
    let done = job(r#"{"id":"a","state":"done","owner":"q","from":"2024-01-02T00:00:00Z",
        "views":[{"view":"bars","definition":"d1","windows":1234,"hash":"hh"}],"truth":"now",
        "keys":[],"priority":5,"manifest_version":17,"engines":{"cpu":1000},"seconds":0.25}"#);
    let text = whole(&done);
    for expected in [
        "job a: done",
        "result     bars: 1,234 windows, hash hh",
        "range      2024-01-02T00:00:00Z to …",
        "truth      now",
        "engines    cpu 1,000",
        "history    manifest 17",
        "took       250 ms",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    for absent in ["keys", "finished", "attempts", "null"] {
        assert!(!text.contains(absent), "{absent}: {text}");
    }
}

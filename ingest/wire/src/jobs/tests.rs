use isotick_model::Scale;
use isotick_model::view::OutputType;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::{Control, Hello, Role};

fn id() -> JobId {
    JobId::new("7f3a-_Z").unwrap()
}

fn every_request() -> Vec<JobRequest> {
    let fetch = |partial, format| JobRequest::Fetch(FetchResult { id: id(), partial, format });
    let submit = SubmitJob {
        from_ns: Some(i64::MIN),
        to_ns: Some(i64::MAX),
        keys: vec![Key::empty(), Key::from_components(["AA\0PL", ""])],
        truth: Truth::Late,
        priority: Priority::new(0).unwrap(),
        engine: Engine::Gpu,
        no_rollup: true,
        ..SubmitJob::new(["bars_1m", "bars_1h"])
    };
    let seen = SubmitJob { truth: Truth::Seen, engine: Engine::Cpu, ..SubmitJob::new(["b"]) };
    vec![
        JobRequest::Submit(submit),
        JobRequest::Submit(seen),
        JobRequest::Submit(SubmitJob::new(["x".repeat(VIEW_NAME_BYTES_MAX)])),
        JobRequest::List,
        JobRequest::Show(id()),
        JobRequest::Watch(id()),
        JobRequest::Cancel(id()),
        JobRequest::Retry(id()),
        fetch(true, Format::Arrow),
        fetch(false, Format::Windows),
    ]
}

fn payload_of(control: &Control) -> Vec<u8> {
    let mut bytes = Vec::new();
    control.put(&mut bytes).unwrap();
    bytes.split_off(crate::message::HEADER_BYTES)
}

#[test]
fn every_request_comes_back() {
    for request in every_request() {
        let control = Control::Hello(Hello::new(Role::Jobs(request)));
        assert_eq!(Control::decode(&payload_of(&control)).unwrap(), control);
    }
    let view = ResultView {
        index: u32::MAX,
        view: "bars".into(),
        schema: ResultSchema {
            keys: vec!["symbol".into()],
            columns: vec![("vwap".into(), OutputType::Scaled(Scale::new(4).unwrap()))],
        },
    };
    let control = Control::ResultView(view);
    assert_eq!(Control::decode(&payload_of(&control)).unwrap(), control);
}

fn decoded(change: impl FnOnce(&mut proto::SubmitJob)) -> Result<JobRequest, DecodeError> {
    let mut submit = SubmitJob::new(["bars"]).to_proto();
    change(&mut submit);
    JobRequest::from_proto(proto::Jobs { request: Some(ProtoRequest::Submit(submit)) })
}

#[test]
fn what_is_left_out_has_a_default() {
    let submit = proto::SubmitJob { views: vec!["bars".into()], ..Default::default() };
    let request =
        JobRequest::from_proto(proto::Jobs { request: Some(ProtoRequest::Submit(submit)) });
    assert_eq!(request.unwrap(), JobRequest::Submit(SubmitJob::new(["bars"])));
    assert_eq!(SubmitJob::new(["bars"]).priority.get(), 5);
}

#[test]
fn what_is_beyond_a_bound_is_refused() {
    let key = |component: String| proto::ScanKey { components: vec![component] };
    let longest = "k".repeat(Key::LEN_MAX - 2);
    assert!(decoded(|_| ()).is_ok());
    assert!(decoded(|s| s.views = vec!["v".into(); VIEWS_MAX]).is_ok());
    assert!(decoded(|s| s.keys = vec![proto::ScanKey::default(); KEYS_MAX]).is_ok());
    assert!(decoded(|s| s.keys = vec![key(longest.clone())]).is_ok());
    assert!(decoded(|s| s.priority = Some(9)).is_ok());
    let wrong: [&dyn Fn(&mut proto::SubmitJob); 10] = [
        &|s| s.views.clear(),
        &|s| s.views = vec!["v".into(); VIEWS_MAX + 1],
        &|s| s.views = vec![String::new()],
        &|s| s.views = vec!["v".repeat(VIEW_NAME_BYTES_MAX + 1)],
        &|s| s.keys = vec![proto::ScanKey::default(); KEYS_MAX + 1],
        &|s| s.keys = vec![key(format!("{longest}k"))],
        &|s| s.priority = Some(10),
        &|s| s.priority = Some(256 + 5),
        &|s| s.truth = 3,
        &|s| s.engine = -1,
    ];
    for (at, change) in wrong.iter().enumerate() {
        let decoded = decoded(change);
        assert!(matches!(decoded, Err(DecodeError::Invalid { .. })), "{at}: {decoded:?}");
    }
    let empty = JobRequest::from_proto(proto::Jobs { request: None });
    assert!(matches!(empty, Err(DecodeError::Invalid { .. })), "{empty:?}");
    for text in ["", "a b", "é", "../x", &"x".repeat(65)] {
        assert_eq!(JobId::new(text), None);
        let show = ProtoRequest::Show(proto::ShowJob { id: text.into() });
        assert!(JobRequest::from_proto(proto::Jobs { request: Some(show) }).is_err());
    }
}

proptest! {
    #[test]
    fn changed_requests_never_panic(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        to: u8,
    ) {
        let requests = every_request();
        let mut bytes = requests[which.index(requests.len())].to_proto().encode_to_vec();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        if let Ok(request) = proto::Jobs::decode(&bytes[..]).map(JobRequest::from_proto)
            && let Ok(request) = request
        {
            prop_assert_eq!(JobRequest::from_proto(request.to_proto()).unwrap(), request);
        }
    }
}

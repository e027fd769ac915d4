//! What a session asks of the service, and what becomes of the answers.

use std::time::Instant;

use bytes::Bytes;
use isotick_wire::{Code, Control, Hello, HelloReply, Refusal, Role, SubscribeReply};
use quinn_proto::Connection;

use super::super::context::Context;
use super::super::fed::Fed;
use super::super::publishing::Publishing;
use super::{Driver, End, Phase};
use crate::access::Admitted;
use crate::feed::Feed;
use crate::input::{Answer, Input, Outlet, Reply, unavailable};
use crate::session::Request;

impl Driver {
    /// The service answered.
    pub(in super::super) fn answer(
        &mut self,
        answer: Answer,
        connection: &mut Connection,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        let end = match answer {
            Answer::Welcome(answer) => {
                let Phase::Asked { publisher, outlet, granted } = &mut self.phase else { return };
                let outlet = outlet.clone();
                match (answer, publisher.take()) {
                    (Ok(welcome), Some((publisher, takes_datagrams))) => {
                        self.requests.welcome(publisher, welcome.columns);
                        let next_row = welcome.next_sequence;
                        let reply = HelloReply {
                            next_sequence: welcome.next_sequence,
                            held: welcome.held,
                            definitions: granted.definitions(welcome.definitions),
                            ack: welcome.ack,
                            session: self.id.0,
                        };
                        self.phase = Phase::Publishing(Publishing::new(
                            outlet,
                            takes_datagrams,
                            welcome.arrow,
                            next_row,
                        ));
                        match self.outbox.put(&Control::HelloReply(reply)) {
                            Ok(()) => return,
                            Err(_) => End::Goodbye(Refusal::new(
                                Code::Unavailable,
                                "the service's definitions are longer than a message may be",
                            )),
                        }
                    }
                    (Ok(_), None) => return,
                    (Err(refusal), _) => End::Refused(granted.conceal(refusal)),
                }
            }
            Answer::Subscription(answer) => {
                let Phase::Asked { granted, .. } = &self.phase else { return };
                match answer {
                    Ok(subscription) => {
                        let reply = SubscribeReply {
                            schema: subscription.schema,
                            cursor: subscription.cursor,
                        };
                        self.phase = Phase::Subscribed { queue: subscription.queue };
                        match self.outbox.put(&Control::SubscribeReply(reply)) {
                            Ok(()) => return,
                            Err(_) => End::Goodbye(unavailable()),
                        }
                    }
                    Err(refusal) => End::Refused(granted.conceal(refusal)),
                }
            }
            Answer::Status(Ok(json)) => End::Answered(Box::new(Control::StatusReply(json))),
            Answer::Definitions(Ok(text)) => match &self.phase {
                Phase::Asked { granted, .. } => {
                    End::Answered(Box::new(Control::DefinitionsReply(granted.definitions(text))))
                }
                _ => return,
            },
            Answer::Status(Err(refusal)) | Answer::Definitions(Err(refusal)) => {
                End::Refused(refusal)
            }
            Answer::Finished(Ok(ack)) => End::Answered(Box::new(Control::FinishReply(ack))),
            Answer::Finished(Err(refusal)) | Answer::Ended(refusal) => End::Goodbye(refusal),
            // Written when there is room: only the newest one counts.
            Answer::Acked | Answer::Queued => return,
        };
        if !matches!(self.phase, Phase::Closing { .. }) {
            self.end(end, connection, cx, now);
        }
    }

    /// Whether the time of what let it in is over.
    pub(in super::super) fn has_expired(&self, now_unix_s: i64) -> bool {
        self.admitted.as_ref().is_some_and(|admitted| admitted.has_expired(now_unix_s))
    }

    /// The rules are new, or time has passed: who may no longer do what it was let in for is told
    /// so, and sent away. Who has finished is only answered still.
    pub(in super::super) fn recheck(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        let Some(admitted) = &self.admitted else { return };
        if let Err(refusal) = cx.still_may(admitted, connection) {
            self.revoke(refusal, connection, cx, now);
        }
    }

    /// What this session does is no longer allowed. Who has finished is only answered still.
    pub(in super::super) fn revoke(
        &mut self,
        refusal: Refusal,
        connection: &mut Connection,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        if !matches!(self.phase, Phase::Finishing { .. } | Phase::Closing { .. }) {
            self.end(End::Revoked(refusal), connection, cx, now);
        }
    }

    pub(super) fn handle(
        &mut self,
        request: Request,
        connection: &Connection,
        cx: &mut Context<'_>,
    ) -> Result<(), End> {
        match request {
            Request::Hello(hello) => self.ask(hello, connection, cx),
            Request::Frame(frame) => {
                let Phase::Publishing(publishing) = &mut self.phase else { return Ok(()) };
                publishing.take(frame, cx.now_ns());
                Ok(())
            }
            Request::Arrow(payload) => {
                let Phase::Publishing(publishing) = &mut self.phase else { return Ok(()) };
                match (publishing.arrow.0)(&payload, publishing.next_row) {
                    Ok(frames) => {
                        let now_ns = cx.now_ns();
                        frames.into_iter().for_each(|frame| publishing.take(frame, now_ns));
                        Ok(())
                    }
                    Err(reason) => {
                        let refusal = Refusal::new(Code::Protocol, reason);
                        self.undecodable(payload, &refusal, cx);
                        Err(End::Goodbye(refusal))
                    }
                }
            }
            Request::Finish(rows) => {
                let Phase::Publishing(publishing) = &self.phase else { return Ok(()) };
                let outlet = publishing.outlet.clone();
                self.phase = Phase::Finishing { outlet };
                self.clock.stop();
                let reply = Reply::new(self.id, cx.mailbox, Answer::Finished);
                let finish = Input::Finish { session: self.id, rows, reply };
                match cx.intake.push(finish) {
                    true => Ok(()),
                    false => Err(End::Goodbye(unavailable())),
                }
            }
        }
    }

    fn ask(
        &mut self,
        hello: Hello,
        connection: &Connection,
        cx: &mut Context<'_>,
    ) -> Result<(), End> {
        self.clock.stop();
        let granted = cx.admit(&hello, connection).map_err(End::Refused)?;
        self.admitted = Some(Admitted::new(&hello, &granted));
        let outlet = Outlet::new(self.id, cx.mailbox);
        let session = self.id;
        let mut asked = None;
        let input = match hello.role {
            Role::Publish { stream, publisher, datagrams } => {
                asked = Some((publisher.clone(), datagrams));
                let reply = Reply::new(session, cx.mailbox, Answer::Welcome);
                let outlet = outlet.clone();
                Input::PublisherHello { session, stream, publisher, outlet, reply }
            }
            Role::Subscribe(request) => {
                let reply = Reply::new(session, cx.mailbox, Answer::Subscription);
                Input::Subscribe { request, outlet: outlet.clone(), reply }
            }
            Role::Status => {
                Input::Status { reply: Reply::new(session, cx.mailbox, Answer::Status) }
            }
            Role::Definitions => {
                Input::Definitions { reply: Reply::new(session, cx.mailbox, Answer::Definitions) }
            }
            Role::Jobs(request) => {
                let opened = Feed::open(outlet, cx.feed_limits, &cx.counters.feeds);
                let Some((feed, queue)) = opened else {
                    let text = "too many requests about jobs are under way: try again later";
                    return Err(End::Refused(Refusal::new(Code::Busy, text)));
                };
                self.phase = Phase::Fed(Fed::new(queue));
                // Without a service the feed comes back and says so.
                cx.intake.push(Input::Jobs { request, owner: granted.into(), feed });
                return Ok(());
            }
        };
        self.phase = Phase::Asked { publisher: asked, outlet, granted };
        match cx.intake.push(input) {
            true => Ok(()),
            false => Err(End::Refused(unavailable())),
        }
    }

    pub(super) fn undecodable(&self, bytes: Bytes, refusal: &Refusal, cx: &mut Context<'_>) {
        let (session, reason, ts_recv_ns) = (self.id, refusal.text.clone(), cx.now_ns());
        cx.intake.push(Input::Undecodable { session, bytes, reason, ts_recv_ns });
    }
}

//! What other threads tell an ingest thread, and how it is woken.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use quinn_proto::EcnCodepoint;

use super::tls::Admission;
use crate::input::{Answer, SessionId};

/// Datagrams that wait to be taken over by the thread they belong to; further ones are dropped, as
/// a full socket drops them.
const FORWARDED_MAX: usize = 1_024;

/// Everything posted since the last look.
#[derive(Default)]
pub(crate) struct Mail {
    /// In the order posted.
    pub(crate) answers: Vec<(SessionId, Answer)>,
    /// Datagrams of this thread's connections that came to another one.
    pub(crate) forwarded: Vec<Forwarded>,
    /// Rows left memory: who waited for that may try again.
    pub(crate) room: bool,
    /// New connections are let in with this from now on.
    pub(crate) admission: Option<Admission>,
    /// The access rules were replaced: whom they no longer allow is to go.
    pub(crate) recheck: bool,
    /// The edge stops: take leave within the time given.
    pub(crate) stop: Option<Duration>,
}

/// A datagram that came to a thread which its connection does not belong to.
pub(crate) struct Forwarded {
    pub(crate) remote: SocketAddr,
    pub(crate) local_ip: Option<IpAddr>,
    pub(crate) ecn: Option<EcnCodepoint>,
    pub(crate) data: BytesMut,
}

/// The posting side. A post wakes the thread only when it sleeps.
pub struct Mailbox {
    mail: Mutex<Mail>,
    has_mail: AtomicBool,
    is_asleep: AtomicBool,
    pipe: PipeWriter,
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

/// The side of the thread: its descriptor becomes readable when the thread is woken.
#[derive(Debug)]
pub(crate) struct Wake(PipeReader);

/// A mailbox and the descriptor that wakes its thread.
pub(crate) fn mailbox() -> io::Result<(Arc<Mailbox>, Wake)> {
    let (reader, writer) = io::pipe()?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    rustix::io::ioctl_fionbio(&writer, true)?;
    let mailbox = Mailbox {
        mail: Mutex::default(),
        has_mail: AtomicBool::new(false),
        is_asleep: AtomicBool::new(false),
        pipe: writer,
    };
    Ok((Arc::new(mailbox), Wake(reader)))
}

impl Mailbox {
    pub(crate) fn post(&self, session: SessionId, answer: Answer) {
        self.put(|mail| mail.answers.push((session, answer)));
    }

    /// False when there was no room: the datagram is dropped.
    pub(crate) fn forward(&self, datagram: Forwarded) -> bool {
        let mut taken = false;
        self.put(|mail| {
            taken = mail.forwarded.len() < FORWARDED_MAX;
            if taken {
                mail.forwarded.push(datagram);
            }
        });
        taken
    }

    pub(crate) fn post_room(&self) {
        self.put(|mail| mail.room = true);
    }

    pub(crate) fn post_admission(&self, admission: Admission) {
        self.put(|mail| mail.admission = Some(admission));
    }

    pub(crate) fn post_recheck(&self) {
        self.put(|mail| mail.recheck = true);
    }

    pub(crate) fn post_stop(&self, patience: Duration) {
        self.put(|mail| mail.stop = Some(patience));
    }

    fn put(&self, change: impl FnOnce(&mut Mail)) {
        change(&mut self.mail());
        self.has_mail.store(true, Ordering::SeqCst);
        if self.is_asleep.swap(false, Ordering::SeqCst) {
            // A full pipe wakes as well.
            let _ = (&self.pipe).write(&[1]);
        }
    }

    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes everything posted.
    pub(crate) fn take(&self) -> Mail {
        match self.has_mail.swap(false, Ordering::SeqCst) {
            true => std::mem::take(&mut *self.mail()),
            false => Mail::default(),
        }
    }

    /// Says that the thread is about to sleep. False when there is mail: then it must not.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.is_asleep.store(true, Ordering::SeqCst);
        let may_sleep = !self.has_mail.load(Ordering::SeqCst);
        if !may_sleep {
            self.wake_up();
        }
        may_sleep
    }

    /// Says that the thread is awake.
    pub(crate) fn wake_up(&self) {
        self.is_asleep.store(false, Ordering::SeqCst);
    }
}

impl Wake {
    /// The same descriptor again.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Makes the descriptor wait for the next wake.
    pub(crate) fn clear(&self) {
        let mut woken = [0; 16];
        let _ = (&self.0).read(&mut woken);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_woken(wake: &Wake) -> bool {
        (&wake.0).read(&mut [0; 16]).is_ok()
    }

    #[test]
    fn only_a_sleeping_thread_is_woken_and_no_mail_is_overlooked() {
        let (mailbox, wake) = mailbox().unwrap();
        mailbox.post(SessionId(1), Answer::Acked);
        assert!(!is_woken(&wake));
        assert!(!mailbox.fall_asleep(), "there is mail");
        assert_eq!(mailbox.take().answers.len(), 1);
        assert!(mailbox.fall_asleep());
        mailbox.post_room();
        mailbox.post_room();
        assert!(is_woken(&wake) && !is_woken(&wake));
        assert!(mailbox.take().room && !mailbox.take().room);
    }
}

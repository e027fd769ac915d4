//! Jobs on a GPU that fails while row groups are held on it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use isotick_gpu::GpuEngine;
use isotick_kernels::{EngineError, EngineKind, Holding, Partials, Plan, Runs};
use isotick_wire::jobs::Engine;

use super::*;
use crate::device::{Devices, Lane, Which};
use crate::placing;

/// What happens to the device.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// It is gone, as after a reset.
    Lost,
    /// One call fails.
    Call,
}

/// When it happens, and what was held then.
struct Drill {
    fault: Fault,
    /// Reductions of held rows until then.
    left: AtomicI64,
    held: Mutex<Option<Holding>>,
    /// Devices that were opened.
    opened: AtomicU64,
    /// Devices there are, one after another.
    devices: u64,
}

impl Drill {
    fn new(fault: Fault, devices: u64) -> Arc<Self> {
        Arc::new(Self {
            fault,
            left: AtomicI64::new(i64::MAX),
            held: Mutex::default(),
            opened: AtomicU64::new(0),
            devices,
        })
    }

    /// Devices that take part in it, whatever adapter is there.
    fn devices(self: &Arc<Self>) -> Arc<Devices> {
        let drill = self.clone();
        let open = move |_: Which, _: &_| {
            if drill.opened.fetch_add(1, Ordering::SeqCst) >= drill.devices {
                return Err("the adapter is gone".to_owned());
            }
            let gpu = crate::engines::any_gpu().map_err(|error| error.to_string())?;
            Ok(Box::new(Drilled { gpu, drill: drill.clone(), to_measure: placing::ROWS.len() })
                as Box<dyn isotick_kernels::Engine>)
        };
        Arc::new(Devices::opened_by(few_threads().device_limits(), open))
    }

    /// In the middle of what comes next.
    fn begin(&self) {
        self.left.store(3, Ordering::SeqCst);
    }
}

/// A real device under a drill.
struct Drilled {
    gpu: GpuEngine,
    drill: Arc<Drill>,
    /// Samples on which it is still to be measured, which takes no time, so that jobs are placed on
    /// it.
    to_measure: usize,
}

impl isotick_kernels::Engine for Drilled {
    fn kind(&self) -> EngineKind {
        EngineKind::Gpu
    }

    fn describe(&self) -> String {
        self.gpu.describe()
    }

    fn reduce(&mut self, plan: &Plan, runs: &Runs) -> Result<Partials, EngineError> {
        match self.to_measure {
            0 => self.gpu.reduce(plan, runs),
            _ => Ok(Partials { words: Vec::new(), stride: plan.words() }),
        }
    }

    fn reduce_held(
        &mut self,
        number: u64,
        plan: &Plan,
        runs: &Runs,
    ) -> Result<Partials, EngineError> {
        if number == placing::SAMPLE {
            return self.reduce(plan, runs);
        }
        if self.drill.left.fetch_sub(1, Ordering::SeqCst) != 1 {
            return self.gpu.reduce_held(number, plan, runs);
        }
        *self.drill.held.lock().unwrap() = self.holding();
        match self.drill.fault {
            Fault::Lost => {
                self.gpu.lose_device();
                self.gpu.reduce_held(number, plan, runs)
            }
            Fault::Call => {
                let mut broken = runs.clone();
                broken.runs[0].len = 0;
                self.gpu.reduce_held(number, plan, &broken)
            }
        }
    }

    fn release(&mut self, number: u64) {
        if number == placing::SAMPLE {
            self.to_measure -= 1;
        }
        self.gpu.release(number);
    }

    fn holding(&self) -> Option<Holding> {
        self.gpu.holding()
    }

    fn is_lost(&self) -> bool {
        self.gpu.is_lost()
    }
}

/// A world with a service on such devices, and what every job over all of its history gives.
struct Drilling {
    world: World,
    service: Service,
    drill: Arc<Drill>,
    engine: Engine,
    hash: String,
    jobs: i64,
}

impl Drilling {
    /// `None` where there is no adapter.
    fn new(engine: Engine, fault: Fault, devices: u64) -> Option<Self> {
        if crate::engines::any_gpu().is_err() {
            println!("ignored: no adapter");
            return None;
        }
        let world = World::new(3, 200_000);
        let drill = Drill::new(fault, devices);
        let on = drill.devices();
        // It is there before the service is.
        let choice = match engine {
            Engine::Auto => EngineChoice::Auto,
            Engine::Cpu => EngineChoice::Cpu,
            Engine::Gpu => EngineChoice::Gpu,
        };
        on.open(choice, Lane::Scan).unwrap();
        let service = Service::start_on(world.options(few_threads()), on).unwrap();
        let hash = world.hash(&SubmitJob::new(["bars_1m"]));
        Some(Self { world, service, drill, engine, hash, jobs: 0 })
    }

    /// A job over everything that none before was asked for, when it is over.
    fn job(&mut self) -> Value {
        self.jobs += 1;
        let to_ns = Some(START_NS + self.jobs * 1_000_000 * 1_000_000_000);
        let asked = SubmitJob {
            to_ns,
            engine: self.engine,
            no_rollup: true,
            ..SubmitJob::new(["bars_1m"])
        };
        let id = submit(&self.service, &asked);
        wait(&self.service, &id)
    }

    /// The same, which must give what the CPU gives: the rows that each engine reduced.
    fn rows(&mut self) -> (Value, [u64; 2]) {
        let job = self.job();
        assert_eq!(job["views"][0]["hash"], *self.hash, "{job}");
        let rows = ["cpu", "gpu"].map(|engine| job["engines"][engine].as_u64().unwrap_or(0));
        assert_eq!(rows[0] + rows[1], 600_000, "{job}");
        (job, rows)
    }

    /// The device and what stays, once the status has come to show what is wanted.
    fn shown(&self, is_wanted: impl Fn(&Value, &Value) -> bool) -> (Value, Value) {
        let since = Instant::now();
        loop {
            let lanes = self.service.shared.to_json()["lanes"].clone();
            let (device, resident) = (lanes["devices"][0].clone(), lanes["resident"][0].clone());
            if is_wanted(&device, &resident) {
                return (device, resident);
            }
            assert!(since.elapsed() < Duration::from_secs(20), "{lanes}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn held_at_the_fault(&self) -> Holding {
        self.drill.held.lock().unwrap().expect("the drill took place")
    }

    fn stop(self) {
        self.service.stop().unwrap();
        drop(self.world);
    }
}

#[test]
fn a_job_goes_on_with_the_cpu_where_the_device_is_lost_with_what_it_holds() {
    let Some(mut drilling) = Drilling::new(Engine::Auto, Fault::Lost, 1) else { return };
    assert_eq!(drilling.rows().1, [0, 600_000]);
    drilling.shown(|_, resident| resident["device_bytes"].as_u64() > Some(0));
    drilling.drill.begin();
    let (job, [cpu, gpu]) = drilling.rows();
    assert!(cpu > 0 && gpu > 0, "{job}");
    assert!(job["fallback"].as_str().unwrap().contains("was lost"), "{job}");
    assert!(drilling.held_at_the_fault().bytes > 0);
    let (device, resident) = drilling.shown(|device, _| device["is_lost"] == true);
    assert!(device["failures"].as_u64() >= Some(1), "{device}");
    assert!(device["failure"].as_str().unwrap().contains("was lost"), "{device}");
    for what in ["device_bytes", "row_groups", "bytes", "bytes_max"] {
        assert_eq!(resident[what], 0, "{what} in {resident}");
    }
    // It does not open again: nothing is kept for it, and no job is told of it any more.
    let (job, rows) = drilling.rows();
    assert_eq!((rows, &job["fallback"]), ([600_000, 0], &Value::Null));
    let (_, resident) = drilling.shown(|_, _| true);
    assert_eq!((&resident["row_groups"], &resident["device_bytes"]), (&0.into(), &0.into()));
    assert!(drilling.drill.opened.load(Ordering::SeqCst) >= 2, "once, and once again");
    drilling.stop();
}

#[test]
fn a_lost_device_is_opened_again_and_holds_what_is_read_from_then_on() {
    let Some(mut drilling) = Drilling::new(Engine::Auto, Fault::Lost, 2) else { return };
    assert_eq!(drilling.rows().1, [0, 600_000]);
    drilling.drill.begin();
    let (job, rows) = drilling.rows();
    assert!(rows[1] > 0 && job["fallback"].is_string(), "{job}");
    let (job, rows) = drilling.rows();
    assert_eq!((rows, &job["fallback"]), ([0, 600_000], &Value::Null));
    let (device, resident) =
        drilling.shown(|_, resident| resident["device_bytes"].as_u64() > Some(0));
    assert_eq!(device["is_lost"], false);
    assert!(device["failures"].as_u64() >= Some(1), "what went wrong is still told: {device}");
    assert!(resident["row_groups"].as_u64() > Some(0), "{resident}");
    drilling.stop();
}

#[test]
fn a_call_that_fails_costs_no_job_the_device() {
    let Some(mut drilling) = Drilling::new(Engine::Auto, Fault::Call, 1) else { return };
    assert_eq!(drilling.rows().1, [0, 600_000]);
    drilling.drill.begin();
    let (job, [cpu, gpu]) = drilling.rows();
    assert!(cpu > 0 && gpu > 0 && job["fallback"].is_string(), "{job}");
    assert!(drilling.held_at_the_fault().bytes > 0);
    assert_eq!(drilling.rows().1, [0, 600_000]);
    let (device, _) = drilling.shown(|device, _| device["failures"] == 1);
    assert_eq!(device["is_lost"], false);
    drilling.stop();
}

#[test]
fn a_job_that_asked_for_the_gpu_says_that_it_was_lost() {
    let Some(mut drilling) = Drilling::new(Engine::Gpu, Fault::Lost, 1) else { return };
    assert_eq!(drilling.rows().1, [0, 600_000]);
    drilling.drill.begin();
    let job = drilling.job();
    assert_eq!(job["state"], "failed", "{job}");
    let error = job["error"].as_str().unwrap();
    assert!(error.contains("was lost") && error.contains("--engine cpu"), "{error}");
    // The next one is told the same, and when the device is opened again.
    let job = drilling.job();
    let error = job["error"].as_str().unwrap();
    assert!(error.contains("was lost") && error.contains(" again"), "{error}");
    drilling.stop();
}

#[test]
fn a_job_that_asked_for_the_gpu_goes_on_where_it_opens_again() {
    let Some(mut drilling) = Drilling::new(Engine::Gpu, Fault::Lost, 2) else { return };
    assert_eq!(drilling.rows().1, [0, 600_000]);
    drilling.drill.begin();
    let (job, rows) = drilling.rows();
    assert_eq!(rows, [0, 600_000], "{job}");
    assert!(job["retries"].as_u64() >= Some(1), "{job}");
    drilling.stop();
}

//! The line, in homes of their own.

use super::*;
use crate::Options;
use std::path::Path;
use std::sync::Mutex;
use vmint_pool::admission::Factor;

fn open(folder: &Path, admission: Admission) -> Vmint {
    let options = Options {
        home: folder.join("home"),
        runner: "/nonexistent/vmint".into(),
        accelerator: None,
        confine: vmint_model::Confine::Best,
        run_as: None,
        full_snapshots: false,
        start_timeout: None,
        admission,
        lease: None,
    };
    Vmint::open(options).unwrap()
}

fn boots() -> Boots {
    Boots::unnamed("a guest", ByteSize::mib(64))
}

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Progress for Told {
    fn stage(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

const ONE: Admission = Admission {
    terms: Terms {
        on_pressure: OnPressure::Wait,
        timeout: Duration::from_secs(20),
    },
    overcommit: Factor::ONE,
    swap_percent: 100,
    pressure: 100,
    cold_boots: 1,
    forks: 1,
};

#[tokio::test]
async fn who_waits_is_rung_as_soon_as_a_place_is_free_in_the_order_of_coming() {
    let dir = tempfile::tempdir().unwrap();
    let (vmint, told) = (open(dir.path(), ONE), Told::default());
    let held = vmint.admit(&boots(), None, &told).await.unwrap();
    let order = Mutex::new(Vec::new());
    let wait = async |n: u32| {
        let (boots, silent) = (boots(), Told::default());
        let told = if n == 0 { &told } else { &silent };
        let permit = vmint.admit(&boots, None, told).await.unwrap();
        order.lock().unwrap().push(n);
        permit
    };
    let release = async {
        while vmint.store().admissions(Boot::Cold).unwrap() != (1, 3) {
            tokio::task::yield_now().await;
        }
        // By now all look for themselves ever less often.
        tokio::time::sleep(Duration::from_millis(700)).await;
        let began = Instant::now();
        drop(held);
        began
    };
    let each = async |n: u32| {
        drop(wait(n).await);
        Instant::now()
    };
    let (began, first, second, third) = tokio::join!(release, each(0), each(1), each(2));
    assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
    let took = first.max(second).max(third) - began;
    // Each looks for himself twice a second at least; three of them would need longer than this.
    assert!(took < Duration::from_millis(300), "{took:?}");
    let told = told.0.into_inner().unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("waiting for a place to start: 1 cold boot(s) under way"));
    assert_eq!(vmint.store().admissions(Boot::Cold).unwrap(), (0, 0));
}

#[tokio::test]
async fn who_gives_up_leaves_the_line_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let vmint = open(dir.path(), ONE);
    let _held = vmint
        .admit(&boots(), None, &vmint_image::Silent)
        .await
        .unwrap();
    let (boots, terms) = (boots(), ONE.terms);
    let wait = vmint.admit(&boots, Some(terms), &vmint_image::Silent);
    let gave_up = tokio::time::timeout(Duration::from_millis(120), wait).await;
    assert!(gave_up.is_err());
    assert_eq!(vmint.store().admissions(Boot::Cold).unwrap(), (1, 0));
    let sockets = std::fs::read_dir(vmint.home().runtime()).unwrap();
    let bells = sockets
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with(bell::PREFIX));
    assert_eq!(bells.count(), 0);
}

mod figures {
    use super::*;

    /// What admission adds to a start when nobody is in the way.
    #[tokio::test]
    async fn an_uncontended_admission_costs_less_than_a_millisecond() {
        let dir = tempfile::tempdir().unwrap();
        let vmint = open(dir.path(), ONE);
        let mut times = Vec::new();
        for _ in 0..200 {
            let boots = boots();
            let began = Instant::now();
            let permit = vmint
                .admit(&boots, None, &vmint_image::Silent)
                .await
                .unwrap();
            permit.settle();
            times.push(began.elapsed());
            vmint.store().withdraw_admission(&boots.machine).unwrap();
        }
        times.sort();
        println!("p50 {:?}, p90 {:?}", times[100], times[180]);
        assert!(times[100] < Duration::from_millis(1), "{:?}", times[100]);
    }
}

//! Begins something and drops it: at each of its awaits, one after the other, and after ever longer times, until it is once left to its
//! end. After each time nothing may be left that nobody holds, though this process lives on. For `tests/tests/cancel.rs`.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use vmint::{Acquire, Fault, Force, NewMachine, Options, PoolSpec, Silent, Vmint};

/// How long the threads that clear up may take, on a busy host.
const SOON: Duration = Duration::from_secs(20);

/// By how much longer each time something is left to itself.
const STEP: Duration = Duration::from_millis(12);

/// When it is dropped.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// As soon as it awaits for the `n`th time.
    At(u32),
    /// After so long.
    After(Duration),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Fault> {
    let what = std::env::args().nth(1).unwrap_or_default();
    let vmint = Arc::new(Vmint::open(Options::from_environment()?)?);
    let before = left(&vmint)?;
    let awaits = (1..).map(Cut::At);
    let times = (0..).map(|n| Cut::After(STEP * n));
    let mut cuts = 0;
    for all in [
        Box::new(awaits) as Box<dyn Iterator<Item = Cut>>,
        Box::new(times),
    ] {
        for cut in all {
            if Box::pin(begun(&vmint, &what, cut)).await? {
                break;
            }
            cuts += 1;
            settled(&vmint, &before, cut).await?;
        }
        settled(&vmint, &before, Cut::At(0)).await?;
    }
    println!("cancelled {cuts} times");
    Ok(())
}

/// Begins it, and cuts it off; whether it came to its end, of which nothing is kept.
async fn begun(vmint: &Arc<Vmint>, what: &str, cut: Cut) -> Result<bool, Fault> {
    let one = NewMachine {
        memory: "128M".parse().expect("a size"),
        ..NewMachine::ephemeral("tiny")
    };
    let kept = NewMachine {
        owner: None,
        ephemeral: false,
        ..one.clone()
    };
    let pool = PoolSpec {
        memory: one.memory,
        min: 2,
        max: 2,
        ..PoolSpec::of("tiny")
    };
    let [child, q] = ["child", "q"].map(|name| name.parse().expect("a name"));
    let made = match what {
        "create" => dropped(cut, Box::pin(vmint.create_running(one, &Silent)))
            .await
            .map(|made| made.map(|made| vec![made])),
        "keep" => dropped(cut, Box::pin(vmint.create_running(kept, &Silent)))
            .await
            .map(|made| made.map(|made| vec![made])),
        "fork" => dropped(cut, Box::pin(vmint.fork("source", &child, 2, &Silent))).await,
        "pool" => {
            let Some(made) = dropped(cut, Box::pin(vmint.create_pool(&q, pool, &Silent))).await
            else {
                return Ok(false);
            };
            made?;
            vmint.remove_pool(&q, Force::Yes, SOON).await?;
            return Ok(true);
        }
        "acquire" => {
            let pool = vmint.pool("p")?;
            let lent = dropped(cut, Box::pin(pool.acquire(Acquire::default()))).await;
            return lent.transpose().map(|lent| lent.is_some());
        }
        other => panic!("{other:?} is nothing to cancel"),
    };
    let Some(made) = made else { return Ok(false) };
    for machine in made? {
        vmint.remove(machine.id.as_str(), Force::Yes).await?;
    }
    Ok(true)
}

/// Drops a future when it is time; what it has come to before that.
async fn dropped<T>(cut: Cut, work: impl Future<Output = T>) -> Option<T> {
    let most = match cut {
        Cut::After(time) => return tokio::time::timeout(time, work).await.ok(),
        Cut::At(most) => most,
    };
    let (mut work, mut polls) = (pin!(work), 0);
    std::future::poll_fn(|context| {
        polls += 1;
        match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if polls == most => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

async fn settled(vmint: &Vmint, before: &[String], cut: Cut) -> Result<(), Fault> {
    let end = Instant::now() + SOON;
    loop {
        let now = left(vmint)?;
        if now == before {
            return Ok(());
        }
        let what = format!("dropped {cut:?}, it left {now:?}, and not {before:?}");
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What there is: machines, pools, leases, those who wait, and folders. Those of the pool's own machines come and go.
fn left(vmint: &Vmint) -> Result<Vec<String>, Fault> {
    let (own, others): (Vec<_>, Vec<_>) = vmint
        .machines()?
        .into_iter()
        .partition(|m| m.pool.as_ref().is_some_and(|pool| pool.as_str() == "p"));
    let mut all: Vec<_> = others
        .iter()
        .map(|m| format!("machine {}", m.name))
        .collect();
    let pools = vmint.pools()?;
    all.extend(pools.iter().map(|p| format!("pool {}", p.pool.name)));
    all.extend(vmint.leases()?.iter().map(|l| format!("lease {}", l.id)));
    all.extend(vmint.waiters()?.iter().map(|w| format!("waiter {w:?}")));
    for folder in [vmint.home().machines(), vmint.home().snapshots()] {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        all.extend(names.filter(|name| !own.iter().any(|m| m.id.as_str() == name)));
    }
    all.sort();
    Ok(all)
}

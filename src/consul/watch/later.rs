//! Consul says when to come back.

use std::sync::Mutex;

use super::*;

const PACE: Pace = Pace {
    backoff: Backoff { min: Duration::from_millis(500), max: Duration::from_secs(60) },
    burst: 8,
    floor: Duration::from_millis(250),
    poll: Duration::from_secs(1),
};

/// Consul, or a proxy before it, wants to be left alone for a minute, and lets another in before.
#[tokio::test(start_paused = true)]
async fn who_is_to_come_back_later_is_woken_all_the_same() {
    let (wake, done) = (Wake::default(), CancellationToken::new());
    let fetches = Arc::new(Mutex::new(Vec::new()));
    let source = Asked { fetches: Arc::clone(&fetches), began: Instant::now() };
    tokio::join!(watch(source, PACE, wake.clone(), done.clone(), async |_| ()), async {
        time::sleep(Duration::from_secs(10)).await;
        let mut outage = Outage::default();
        outage.add();
        assert!(outage.end("another", &wake));
        time::sleep(Duration::from_secs(100)).await;
        done.cancel();
    },);
    let at_secs = fetches.lock().unwrap().clone();
    assert_eq!(at_secs.get(..2), Some(&[0, 10][..]), "{at_secs:?}");
    // One wake an outage: then it is as it was asked to be.
    let third = at_secs.get(2).unwrap();
    assert!((70..=101).contains(third), "{at_secs:?}");
}

/// Is told each time to come back in a minute.
struct Asked {
    fetches: Arc<Mutex<Vec<u64>>>,
    began: Instant,
}

impl Source<&'static str> for Asked {
    fn name(&self) -> &str {
        "asked"
    }

    async fn fetch(&mut self, _: Option<Position>) -> Result<Reply<&'static str>, FetchError> {
        self.fetches.lock().unwrap().push(self.began.elapsed().as_secs());
        let retry_after = Some(Duration::from_secs(60));
        Err(FetchError::Status { status: 503, body: String::new(), retry_after })
    }
}

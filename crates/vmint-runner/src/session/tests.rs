//! Sessions with guests that do as a script says.

use super::*;
use tokio::io::duplex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vmint_protocol::{
    Hello, PREAMBLE_LEN, PROTOCOL_VERSION, ToGuest, WINDOW, Welcome, encode_data, encode_message,
};

/// A guest that answers the greeting, then does as `script` says.
async fn guest<F, Fut>(script: F) -> Result<Session, SessionError>
where
    F: FnOnce(tokio::io::DuplexStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let (ours, mut theirs) = duplex(8 << 20);
    tokio::spawn(async move {
        let mut hello = [0; PREAMBLE_LEN];
        theirs.read_exact(&mut hello).await.unwrap();
        let nonce = Hello::decode(&hello).unwrap().nonce;
        theirs
            .write_all(b"the rest of an older session")
            .await
            .unwrap();
        theirs
            .write_all(
                &Welcome {
                    version: PROTOCOL_VERSION,
                    nonce,
                }
                .encode(),
            )
            .await
            .unwrap();
        script(theirs).await;
    });
    Session::greet(ours, Duration::from_secs(5)).await
}

#[tokio::test]
async fn what_is_asked_with_the_greeting_comes_in_the_same_breath_and_is_answered() {
    let (ours, mut theirs) = duplex(1 << 20);
    tokio::spawn(async move {
        let mut said = [0; 1024];
        let n = theirs.read(&mut said).await.unwrap();
        assert!(n > PREAMBLE_LEN, "the request is there already");
        let nonce = Hello::decode(&said[..PREAMBLE_LEN]).unwrap().nonce;
        let version = PROTOCOL_VERSION;
        let mut answer = Welcome { version, nonce }.encode().to_vec();
        encode_message(&mut answer, 1, &FromGuest::Reply(Reply::Pong)).unwrap();
        theirs.write_all(&answer).await.unwrap();
        let mut second = Vec::new();
        encode_message(&mut second, 2, &FromGuest::Reply(Reply::ClockSet)).unwrap();
        let _request = theirs.read(&mut said).await.unwrap();
        theirs.write_all(&second).await.unwrap();
    });
    let limit = Duration::from_secs(5);
    let greeted = Session::greet_asking(ours, Request::Ping, limit).await;
    let (session, mut answer) = greeted.unwrap();
    let first = answer.outcome().await.unwrap();
    assert_eq!(first, FromGuest::Reply(Reply::Pong));
    let second = session.call(Request::SetClock(1), "set its clock", limit);
    assert_eq!(second.await.unwrap(), Reply::ClockSet);
}

#[tokio::test]
async fn a_session_starts_behind_the_rest_of_an_older_one_and_tells_when_it_is_lost() {
    let session = guest(|mut io| async move {
        let mut buffer = [0; 1024];
        let _request = io.read(&mut buffer).await.unwrap();
        let mut out = Vec::new();
        encode_message(&mut out, 1, &FromGuest::Reply(Reply::Pong)).unwrap();
        io.write_all(&out).await.unwrap();
    });
    let session = session.await.unwrap();
    let answer = session
        .call(Request::Ping, "answer", Duration::from_secs(5))
        .await;
    assert!(matches!(answer, Ok(Reply::Pong)), "{answer:?}");
    session.lost().await;
    assert!(matches!(
        session.open(Request::Ping),
        Err(SessionError::Lost { .. })
    ));
}

#[tokio::test]
async fn a_guest_that_ignores_the_window_loses_its_session_instead_of_filling_our_memory() {
    let session = guest(|mut io| async move {
        let mut buffer = [0; 1024];
        let _request = io.read(&mut buffer).await.unwrap();
        let mut out = Vec::new();
        encode_data(&mut out, 1, Channel::Output, &vec![0; 4 << 20]);
        io.write_all(&out).await.unwrap();
        // Stays, so that it is we who end the session.
        while io.read(&mut buffer).await.unwrap_or(0) > 0 {}
    });
    let session = session.await.unwrap();
    let mut stream = session.open(Request::Exec(Box::default())).unwrap();
    let breach = tokio::time::timeout(Duration::from_secs(10), session.broken())
        .await
        .unwrap();
    assert!(matches!(breach, Breach::Overrun { .. }), "{breach:?}");
    // What came within the window is there still; then the stream says why nothing follows.
    let mut came = 0;
    let end = loop {
        match stream.next().await {
            Ok(StreamEvent::Data(_, bytes)) => came += bytes.len(),
            other => break other,
        }
    };
    assert!(came <= WINDOW as usize, "{came}");
    assert!(matches!(end, Err(SessionError::Broken(_))), "{end:?}");
}

#[tokio::test]
async fn an_answer_that_comes_before_its_question_ends_the_session() {
    let session = guest(|mut io| async move {
        let mut out = Vec::new();
        encode_message(&mut out, 1, &FromGuest::Reply(Reply::Pong)).unwrap();
        io.write_all(&out).await.unwrap();
        let mut buffer = [0; 1024];
        while io.read(&mut buffer).await.unwrap_or(0) > 0 {}
    });
    let session = session.await.unwrap();
    let breach = tokio::time::timeout(Duration::from_secs(10), session.broken())
        .await
        .unwrap();
    assert_eq!(breach, Breach::NeverOpened { stream: 1 });
}

#[tokio::test]
async fn a_guest_that_does_not_read_costs_no_more_than_what_its_streams_may_hold() {
    // A pipe of 64 bytes that nobody empties.
    let (ours, _theirs) = duplex(64);
    let session = Session::start(ours, BytesMut::new());
    for _ in 0..10_000 {
        let stream = session.open(Request::Exec(Box::default())).unwrap();
        stream.send(&[1; 100]);
        stream.message(&ToGuest::Signal(2));
        drop(stream);
        tokio::task::yield_now().await;
    }
    let held = session.core().lock().streams.held();
    assert!(held < 16 << 10, "{held} bytes are held");
}

#[tokio::test]
async fn a_session_without_handles_says_what_it_has_to_say_and_hangs_up() {
    let (ours, mut theirs) = duplex(1 << 20);
    let session = Session::start(ours, BytesMut::new());
    let stream = session.open(Request::Exec(Box::default())).unwrap();
    stream.send(b"the last words");
    stream.send_eof();
    // Until it was written, to drop the stream would take it back.
    let mut said = [0; 64];
    let n = theirs.read(&mut said).await.unwrap();
    drop((session, stream));
    let mut rest = said[..n].to_vec();
    tokio::time::timeout(Duration::from_secs(10), theirs.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert!(rest.windows(14).any(|w| w == b"the last words"), "{rest:?}");
}

#[tokio::test]
async fn another_version_is_an_error_that_names_both() {
    let (ours, mut theirs) = duplex(4096);
    tokio::spawn(async move {
        let mut hello = [0; PREAMBLE_LEN];
        theirs.read_exact(&mut hello).await.unwrap();
        let nonce = Hello::decode(&hello).unwrap().nonce;
        theirs
            .write_all(&Welcome { version: 77, nonce }.encode())
            .await
            .unwrap();
        theirs
    });
    let error = Session::greet(ours, Duration::from_secs(5))
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("77") && text.contains(&PROTOCOL_VERSION.to_string()),
        "{text}"
    );
}

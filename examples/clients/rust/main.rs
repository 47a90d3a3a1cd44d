//! Insert, be told when the vectors are there, search. tokio-postgres; by DATABASE_URL.

use std::{env, error::Error, future::poll_fn, time::Duration};
use tokio::{sync::mpsc, time::timeout};
use tokio_postgres::{AsyncMessage, NoTls};

const INSERT: &str =
    "INSERT INTO messages (customer, content) SELECT * FROM unnest($1::text[], $2::text[]) RETURNING id";
const UNDER_WAY: &str =
    "SELECT count(*) FROM unnest($1::bigint[]) AS id, autoembed.job_status('messages', id::text) AS job
     WHERE job.state IN ('waiting', 'in_flight')";
const SEARCH: &str = "SELECT content, similarity FROM similar_messages($1, k => $2, filter => $3)";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (db, mut connection) = tokio_postgres::connect(&env::var("DATABASE_URL")?, NoTls).await?;
    let (tell, mut told) = mpsc::unbounded_channel();
    // This drives the connection, and sees what comes beside the answers.
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message {
                let _ = tell.send(notification);
            }
        }
    });
    db.batch_execute("LISTEN autoembed").await?; // before the INSERT, so that no notification is missed

    let customers = ["ann", "ann", "ben"];
    let contents = ["my parcel never arrived", "please cancel my subscription", "where is my package?"];
    let rows = db.query(INSERT, &[&&customers[..], &&contents[..]]).await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.get("id")).collect();

    // A notification tells of a batch, not of rows: so each time these are looked at. After ten seconds without one they are looked at
    // as well, since a notification may be left out.
    while db.query_one(UNDER_WAY, &[&ids]).await?.get::<_, i64>(0) > 0 {
        let _ = timeout(Duration::from_secs(10), told.recv()).await;
    }

    let filter = serde_json::json!({"customer": "ann"});
    for row in db.query(SEARCH, &[&"delivery problems", &2, &filter]).await? {
        println!("{:.2} {}", row.get::<_, f32>("similarity"), row.get::<_, &str>("content"));
    }
    Ok(())
}

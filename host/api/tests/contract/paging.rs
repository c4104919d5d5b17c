//! What a page of stored events costs does not grow with what stands before it.

use serde_json::json;

use crate::house::House;

#[tokio::test]
async fn a_page_of_events_reads_what_it_tells_however_long_the_history_before_it_is() {
    let house = House::new().await;
    house.start("steps", "march", json!({ "steps": 600 })).await;
    house.ended("march").await;
    let (mut costs, mut cursor, mut count) = (Vec::new(), String::new(), 0);
    loop {
        let path = format!("/v1/workflows/events/list?workflow_exec_id=march&limit=20{cursor}");
        let (read, page) = house.read_for(&path).await;
        costs.push(read);
        let events = page["events"].as_array().expect("a list");
        let of_steps = events.iter().filter(|event| event["attributes"]["activity_name"] == "step").count();
        count += of_steps;
        assert!(of_steps + 2 >= events.len(), "each step has its name: {page}");
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(count, 1_200, "each step began and ended");
    let (first, most) = (costs[0], costs.iter().max().expect("a page"));
    println!("{} pages; records that were read for the first {first}, for any {most} at most", costs.len());
    assert!(*most <= first + 16 && first <= 100, "{costs:?}");
}

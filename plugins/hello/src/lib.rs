//! The smallest plugin: one workflow that runs one activity.

/// Makes a greeting.
#[airlock::activity]
async fn greet(name: String) -> airlock::Result<String> {
    Ok(format!("Hello, {name}!"))
}

/// Greets somebody by name.
#[airlock::workflow(name = "hello", display_name = "Hello")]
async fn hello(ctx: airlock::Workflow, name: String) -> airlock::Result<String> {
    ctx.activity(greet, name).await
}

airlock::plugin!(workflows: [hello], activities: [greet]);

#[cfg(test)]
mod tests {
    use airlock::testing::Test;
    use serde_json::json;

    #[test]
    fn it_greets_by_name() {
        let ended = Test::of(crate::AirlockPlugin).run("hello", json!({"name": "Ada"}));
        assert_eq!(ended.output.unwrap(), json!({"result": "Hello, Ada!"}));
        assert_eq!(ended.steps, ["activity greet"]);
    }
}

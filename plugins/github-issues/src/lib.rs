//! Writes an issue on GitHub with the caller's own identity. The token stays with the host.

use airlock::{Error, Result, Tools, Workflow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

airlock::connector!(
    /// An MCP server with GitHub's tools.
    Github = "github_app"
);

/// What to write, and where.
#[derive(Serialize, Deserialize, JsonSchema)]
struct IssuePrompt {
    /// The user or organisation that owns the repository.
    owner: String,
    /// The repository's name.
    repo: String,
    /// One line.
    title: String,
    /// The text, in Markdown.
    #[serde(default)]
    body: String,
}

/// The issue that was created.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct IssueRef {
    /// Where people find it.
    url: String,
}

/// Creates an issue with the tool `issue_write`.
#[airlock::activity(
    name = "create-github-issue",
    start_to_close = "30s",
    // An issue that was created although the answer got lost must not be created twice.
    retry(attempts = 3, non_retryable("ConnectorToolCallError", "Timeout"))
)]
async fn create_github_issue(issue: IssuePrompt, github: Tools<Github>) -> Result<IssueRef> {
    let arguments = json!({
        "method": "create",
        "owner": issue.owner,
        "repo": issue.repo,
        "title": issue.title,
        "body": issue.body,
    });
    let created: Value = github.call_as("issue_write", arguments).await?;
    // GitHub's own server says `url`, its REST API `html_url`.
    let url = ["html_url", "url"].iter().find_map(|key| created.get(key)?.as_str());
    let url = url.ok_or_else(|| {
        Error::new("UnexpectedAnswer", "the issue was written, but the answer of issue_write has no url")
            .non_retryable()
    })?;
    Ok(IssueRef { url: url.to_owned() })
}

/// Creates an issue on GitHub on behalf of the caller.
#[airlock::workflow(
    name = "github-issue-creator",
    display_name = "GitHub issue creator",
    on_behalf_of,
    connectors(Github)
)]
async fn github_issue_creator(ctx: Workflow, prompt: IssuePrompt) -> Result<IssueRef> {
    ctx.activity(create_github_issue, prompt).await
}

airlock::plugin!(workflows: [github_issue_creator], activities: [create_github_issue]);

#[cfg(test)]
mod tests {
    use airlock::testing::Test;

    use super::*;

    #[test]
    fn the_prompt_becomes_the_arguments_of_issue_write() {
        let ended = Test::of(AirlockPlugin)
            .tool::<Github>("issue_write", |arguments| {
                assert_eq!(arguments["method"], "create");
                assert_eq!(arguments["title"], "It rains");
                let text = json!({"id": "1", "url": "https://github.com/o/r/issues/1"}).to_string();
                Ok(json!({"content": [{"type": "text", "text": text}], "metadata": {}}))
            })
            .run("github-issue-creator", json!({"owner": "o", "repo": "r", "title": "It rains"}));
        assert_eq!(ended.output.unwrap(), json!({"url": "https://github.com/o/r/issues/1"}));
    }
}

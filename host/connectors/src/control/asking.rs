//! How long people may take for what a call asks them, whoever asks: the operator's rule, or the server in the middle of it.

use std::time::Duration;

use airlock_engine::{
    Failure, Json,
    tools::{Conversation, Question},
};
use async_trait::async_trait;

/// A conversation in which questions expire.
pub(crate) struct Asking<'a> {
    with: &'a dyn Conversation,
    within: Option<Duration>,
}

impl<'a> Asking<'a> {
    /// Questions that say nothing else expire after this.
    pub(crate) fn new(with: &'a dyn Conversation, within: Option<Duration>) -> Self {
        Self { with, within }
    }
}

#[async_trait]
impl Conversation for Asking<'_> {
    async fn authorized(&self) -> Result<(), Failure> {
        self.with.authorized().await
    }

    async fn ask(&self, question: Question) -> Result<Json, Failure> {
        let expires_after = question.expires_after.or(self.within);
        self.with.ask(Question { expires_after, ..question }).await
    }

    fn progress(&self, progress: Json) {
        self.with.progress(progress);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with how long it was given.
    struct Clerk;

    #[async_trait]
    impl Conversation for Clerk {
        async fn authorized(&self) -> Result<(), Failure> {
            Ok(())
        }

        async fn ask(&self, question: Question) -> Result<Json, Failure> {
            let seconds = question.expires_after.map(|limit| limit.as_secs());
            Ok(serde_json::json!(seconds).into())
        }

        fn progress(&self, _: Json) {}
    }

    #[tokio::test]
    async fn every_question_of_a_call_expires_as_the_rules_say() {
        let seconds = |n: u64| Some(Duration::from_secs(n));
        for (rule, own, expected) in [
            (None, None, None),
            (seconds(5), None, Some(5)),
            (None, seconds(7), Some(7)),
            (seconds(5), seconds(7), Some(7)),
        ] {
            let question = Question {
                label: "?".into(),
                input_schema: Json::null(),
                about: Json::null(),
                expires_after: own,
            };
            let given = Asking::new(&Clerk, rule).ask(question).await.expect("is answered");
            assert_eq!(given.value(), serde_json::json!(expected));
        }
    }
}

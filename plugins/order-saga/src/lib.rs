//! An order: reserve every item at once, charge, pack one item after the other, ship and notify. When a step fails, or
//! somebody cancels, what was done is undone before the workflow ends.

use std::time::Duration;

use airlock::{ActivityContext, Error, Result, Workflow, join_all, try_join};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// An order to play through.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Order {
    /// The customer's number for it.
    #[serde(default = "default_id")]
    id: String,
    /// How many items it has.
    #[serde(default = "default_items")]
    #[schemars(range(min = 1, max = 1000))]
    items: u32,
    /// The wait before the charge and before each item is packed.
    #[serde(default = "default_delay_ms")]
    delay_ms: u64,
    /// The step that is to fail, to see the order undone.
    #[serde(default)]
    fail_at: Option<Step>,
}

fn default_id() -> String {
    "order-1".to_owned()
}

fn default_items() -> u32 {
    3
}

fn default_delay_ms() -> u64 {
    200
}

/// A step of an order.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Step {
    /// The last item is out of stock.
    Reserve,
    /// The card is declined.
    Charge,
    /// The last item is broken.
    Pack,
    /// The carrier is on strike.
    Ship,
}

/// What became of the order.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Receipt {
    id: String,
    reservations: Vec<String>,
    payment: String,
    packed: u32,
    tracking: String,
}

/// An item of an order, and whether its step is to fail.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Item {
    number: u32,
    #[serde(default)]
    fail: bool,
}

/// Sets an item aside.
#[airlock::activity(name = "reserve-item")]
async fn reserve_item(ctx: ActivityContext, item: Item) -> Result<String> {
    if item.fail {
        return Err(Error::new("OutOfStock", format!("item {} is out of stock", item.number)).non_retryable());
    }
    // A warehouse that is given the same key twice reserves once.
    Ok(format!("reservation-{}", ctx.idempotency_key()))
}

/// Takes the money.
#[airlock::activity(
    name = "charge-payment",
    start_to_close = "10s",
    retry(attempts = 5, non_retryable("CardDeclined"))
)]
async fn charge_payment(ctx: ActivityContext, item: Item) -> Result<String> {
    if item.fail {
        return Err(Error::new("CardDeclined", "the card was declined"));
    }
    Ok(format!("payment-{}", ctx.idempotency_key()))
}

/// Puts an item into the box.
#[airlock::activity(name = "pack-item")]
async fn pack_item(item: Item) -> Result<()> {
    if item.fail {
        return Err(Error::new("Broken", format!("item {} is broken", item.number)).non_retryable());
    }
    Ok(())
}

/// Hands the box to the carrier.
#[airlock::activity(name = "ship-order")]
async fn ship_order(ctx: ActivityContext, item: Item) -> Result<String> {
    if item.fail {
        return Err(Error::new("Strike", "the carrier is on strike").non_retryable());
    }
    Ok(format!("tracking-{}", ctx.idempotency_key()))
}

/// Tells the customer.
#[airlock::activity(name = "notify-customer")]
async fn notify_customer(text: String) -> Result<()> {
    airlock::log::info!("{text}");
    Ok(())
}

/// Puts a reserved item back.
#[airlock::activity(name = "release-item")]
async fn release_item(reservation: String) -> Result<()> {
    airlock::log::info!("released {reservation}");
    Ok(())
}

/// Gives the money back.
#[airlock::activity(name = "refund-payment")]
async fn refund_payment(payment: String) -> Result<()> {
    airlock::log::info!("refunded {payment}");
    Ok(())
}

/// What has been done, and so has to be undone.
#[derive(Default)]
struct Done {
    reservations: Vec<String>,
    payment: Option<String>,
}

/// Plays an order through, and undoes it when a step fails.
#[airlock::workflow(name = "order-saga", display_name = "Order saga", execution_timeout = "1d")]
async fn order_saga(ctx: Workflow, order: Order) -> Result<Receipt> {
    let mut done = Done::default();
    match fulfil(&ctx, &order, &mut done).await {
        Ok(receipt) => Ok(receipt),
        Err(error) => {
            // Also when it was cancelled: what follows goes on regardless.
            ctx.shield(undo(&ctx, done)).await?;
            Err(error)
        }
    }
}

async fn fulfil(ctx: &Workflow, order: &Order, done: &mut Done) -> Result<Receipt> {
    let delay = Duration::from_millis(order.delay_ms);
    let fails = |step, number| Item { number, fail: order.fail_at == Some(step) && number == order.items };

    let reservations =
        join_all((1..=order.items).map(|n| ctx.activity(reserve_item, fails(Step::Reserve, n)))).await;
    let (reserved, failed): (Vec<_>, Vec<_>) = reservations.into_iter().partition(Result::is_ok);
    done.reservations = reserved.into_iter().flatten().collect();
    if let Some(Err(error)) = failed.into_iter().next() {
        return Err(error);
    }

    ctx.sleep(delay).await?;
    let payment = ctx.activity(charge_payment, fails(Step::Charge, order.items)).await?;
    done.payment = Some(payment.clone());

    ctx.task("packing", json!({"packed": 0, "of": order.items}), async |packing| {
        for number in 1..=order.items {
            ctx.sleep(delay).await?;
            ctx.activity(pack_item, fails(Step::Pack, number)).await?;
            packing.update(json!({"packed": number, "of": order.items}))?;
        }
        Ok(())
    })
    .await?;

    let (tracking, ()) = try_join!(
        ctx.activity(ship_order, fails(Step::Ship, order.items)),
        ctx.activity(notify_customer, format!("Order {} is on its way", order.id)),
    )?;
    Ok(Receipt {
        id: order.id.clone(),
        reservations: done.reservations.clone(),
        payment,
        packed: order.items,
        tracking,
    })
}

async fn undo(ctx: &Workflow, done: Done) -> Result<()> {
    if let Some(payment) = done.payment {
        ctx.activity(refund_payment, payment).await?;
    }
    for reservation in done.reservations.into_iter().rev() {
        ctx.activity(release_item, reservation).await?;
    }
    Ok(())
}

airlock::plugin!(
    workflows: [order_saga],
    activities: [reserve_item, charge_payment, pack_item, ship_order, notify_customer, release_item, refund_payment],
);

#[cfg(test)]
mod tests {
    use airlock::testing::Test;

    use super::*;

    #[test]
    fn an_order_goes_through() {
        let ended = Test::of(AirlockPlugin).run("order-saga", json!({"items": 2, "delay_ms": 50}));
        assert_eq!(ended.output.unwrap()["packed"], 2);
        assert_eq!(
            ended.steps,
            [
                "activity reserve-item",
                "activity reserve-item",
                "timer 50 ms",
                "activity charge-payment",
                "timer 50 ms",
                "activity pack-item",
                "timer 50 ms",
                "activity pack-item",
                "activity ship-order",
                "activity notify-customer",
            ]
        );
        assert_eq!(ended.events.len(), 4);
    }

    #[test]
    fn a_failing_step_undoes_what_was_done() {
        let ended = Test::of(AirlockPlugin).run("order-saga", json!({"items": 2, "fail_at": "pack"}));
        assert_eq!(ended.output.unwrap_err().kind(), "Broken");
        assert_eq!(
            ended.steps[ended.steps.len() - 3..],
            ["activity refund-payment", "activity release-item", "activity release-item"]
        );
    }

    #[test]
    fn only_what_was_reserved_is_released() {
        let ended = Test::of(AirlockPlugin).run("order-saga", json!({"items": 3, "fail_at": "reserve"}));
        assert_eq!(ended.output.unwrap_err().kind(), "OutOfStock");
        assert_eq!(ended.steps.iter().filter(|step| *step == "activity release-item").count(), 2);
    }

    #[test]
    fn a_cancelled_order_is_undone_too() {
        let ended =
            Test::of(AirlockPlugin).cancel_after(4, "changed my mind").run("order-saga", json!({"items": 2}));
        assert!(ended.output.unwrap_err().is_cancelled());
        assert!(ended.steps.contains(&"activity refund-payment".to_owned()));
    }
}

//! The calls.
//!
//! KEDA takes no activity for a reason to scale to zero, and an error for none: it leaves the
//! replicas as they are, and shows the text at the ScaledObject. So a figure that nobody knows is
//! an error. Where there is no pod that it could be of there is nothing to know: that is zero, as
//! an error would keep KEDA from starting the first.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, async_trait};

use super::trigger::{BadTrigger, Trigger};
use super::wire::external_scaler_server::ExternalScaler;
use super::wire::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec,
    MetricValue, ScaledObjectRef,
};
use crate::autoscaling::catalogue::ExternalMetric;
use crate::autoscaling::{Figures, Snapshot};
use crate::extender::gate::GateError;

/// How often a stream looks: readings come once a second.
const PACE: Duration = Duration::from_secs(1);

/// Answers KEDA. Cheap to clone.
#[derive(Clone)]
pub(super) struct Scaler {
    figures: Figures,
    /// Ends the streams.
    stop: CancellationToken,
}

/// Why there is no figure now.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("{0}")]
    NotKnowing(#[from] GateError),
    #[error("the fleet's figures could not be computed")]
    NotComputed,
    #[error(
        "{} is not known of any of the {pods} pods that are picked: {}",
        .metric.name,
        .metric.unknown_where
    )]
    Unknown { metric: &'static ExternalMetric, pods: usize },
}

impl From<Unanswered> for Status {
    fn from(why: Unanswered) -> Self {
        Self::unavailable(why.to_string())
    }
}

impl From<BadTrigger> for Status {
    fn from(why: BadTrigger) -> Self {
        Self::invalid_argument(why.to_string())
    }
}

impl Scaler {
    pub(super) const fn new(figures: Figures, stop: CancellationToken) -> Self {
        Self { figures, stop }
    }

    async fn value(&self, trigger: &Trigger) -> Result<f64, Unanswered> {
        self.figures.check_knowing()?;
        let snapshot = self.figures.now().await.ok_or(Unanswered::NotComputed)?;
        match trigger.metric.value(&snapshot, |facts| trigger.picks(facts)) {
            Some(amount) => Ok(amount.as_f64()),
            None => nothing_is_known(trigger, &snapshot),
        }
    }

    async fn is_active(&self, trigger: &Trigger) -> Result<bool, Unanswered> {
        Ok(self.value(trigger).await? > trigger.activation_target)
    }

    /// Whether it is active, now and whenever that changes. The stream ends without an error: KEDA
    /// then comes back in two seconds, and after errors later each time.
    fn activity(self, trigger: Trigger) -> BoxStream<'static, Result<IsActiveResponse, Status>> {
        let looker = Looker { scaler: self, trigger, pace: pace(), told: None };
        stream::unfold(looker, Looker::next).map(Ok).boxed()
    }
}

fn nothing_is_known(trigger: &Trigger, snapshot: &Snapshot) -> Result<f64, Unanswered> {
    let pods = snapshot.survey.living().filter(|facts| trigger.picks(facts)).count();
    if pods == 0 { Ok(0.0) } else { Err(Unanswered::Unknown { metric: trigger.metric, pods }) }
}

struct Looker {
    scaler: Scaler,
    trigger: Trigger,
    pace: Interval,
    told: Option<bool>,
}

fn pace() -> Interval {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

impl Looker {
    async fn next(mut self) -> Option<(IsActiveResponse, Self)> {
        let stop = self.scaler.stop.clone();
        let result = stop.run_until_cancelled(self.change()).await??;
        Some((IsActiveResponse { result }, self))
    }

    /// What is to be told next; `None` when this replica ends.
    async fn change(&mut self) -> Option<bool> {
        loop {
            self.pace.tick().await;
            match self.scaler.is_active(&self.trigger).await {
                Ok(is_active) if self.told != Some(is_active) => {
                    self.told = Some(is_active);
                    return self.told;
                }
                Err(Unanswered::NotKnowing(GateError::Draining)) => return None,
                // Nothing new, or nothing known: what was told stands.
                Ok(_) | Err(_) => {}
            }
        }
    }
}

#[async_trait]
impl ExternalScaler for Scaler {
    type StreamIsActiveStream = BoxStream<'static, Result<IsActiveResponse, Status>>;

    async fn is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<IsActiveResponse>, Status> {
        let trigger = Trigger::of(request.into_inner())?;
        let result = self.is_active(&trigger).await?;
        Ok(Response::new(IsActiveResponse { result }))
    }

    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let trigger = Trigger::of(request.into_inner())?;
        self.figures.check_knowing().map_err(Unanswered::from)?;
        Ok(Response::new(self.clone().activity(trigger)))
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let trigger = Trigger::of(request.into_inner())?;
        let spec = MetricSpec {
            metric_name: trigger.metric.name.to_owned(),
            target_size: whole(trigger.target).max(1),
            target_size_float: trigger.target,
        };
        Ok(Response::new(GetMetricSpecResponse { metric_specs: vec![spec] }))
    }

    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        let GetMetricsRequest { scaled_object_ref, metric_name } = request.into_inner();
        let trigger = Trigger::of(scaled_object_ref.unwrap_or_default())?;
        if metric_name != trigger.metric.name {
            let text = format!(
                "metricName: {metric_name:?} is not metadata.metric, {:?}",
                trigger.metric.name
            );
            return Err(Status::invalid_argument(text));
        }
        let value = self.value(&trigger).await?;
        let value =
            MetricValue { metric_name, metric_value: whole(value), metric_value_float: value };
        Ok(Response::new(GetMetricsResponse { metric_values: vec![value] }))
    }
}

/// For a KEDA that knows no parts.
fn whole(number: f64) -> i64 {
    number.round() as i64
}

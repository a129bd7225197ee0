//! Partitions one after the other. `UNION ALL` makes a partition of each side, and DataFusion takes from partitions
//! whatever is ready first; here the first is read to its end, then the second.

use datafusion::common::Result;
use datafusion::common::internal_err;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
    SendableRecordBatchStream,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::fmt;
use std::sync::Arc;

/// The plan with every place where partitions meet made orderly, and with one partition at its end.
pub fn one_after_the_other(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = plan.transform_up(|node| {
        let any = node.as_ref();
        if let Some(meet) = any.downcast_ref::<CoalescePartitionsExec>() {
            let input: Arc<dyn ExecutionPlan> = Arc::new(InOrder::new(meet.input().clone()));
            return Ok(Transformed::yes(match meet.fetch() {
                Some(fetch) => Arc::new(GlobalLimitExec::new(input, 0, Some(fetch))),
                None => input,
            }));
        }
        if let Some(meet) = any.downcast_ref::<RepartitionExec>() {
            if meet.partitioning().partition_count() > 1 {
                return internal_err!("the plan of the statement has several partitions");
            }
            return Ok(Transformed::yes(Arc::new(InOrder::new(meet.input().clone()))));
        }
        Ok(Transformed::no(node))
    })?;
    Ok(Arc::new(InOrder::new(plan.data)))
}

#[derive(Debug)]
struct InOrder {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl InOrder {
    fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            Partitioning::UnknownPartitioning(1),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Self { input, properties: Arc::new(properties) }
    }
}

impl DisplayAs for InOrder {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InOrder")
    }
}

impl ExecutionPlan for InOrder {
    fn name(&self) -> &str {
        "InOrder"
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }
    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }
    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(only), true) => Ok(Arc::new(Self::new(only))),
            _ => internal_err!("InOrder has one input"),
        }
    }
    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let partitions = self.input.output_partitioning().partition_count();
        let (input, schema) = (self.input.clone(), self.input.schema());
        let parts = stream::iter(0..partitions).map(move |i| input.execute(i, context.clone())).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, parts)))
    }
}

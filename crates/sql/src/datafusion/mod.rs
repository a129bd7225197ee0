//! DataFusion, embedded. A statement runs in one partition, on one thread beside the one that reads the table, so its
//! result's order is always the same. Memory is limited; sorts and groups go on in temporary files.

mod errors;
mod functions;
mod in_order;
mod input;
mod output;
mod statement;

use crate::{EngineKind, EngineOptions, Query, Records, SqlEngine, TABLE, Table};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::execution::SessionStateDefaults as Defaults;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use errors::{internal, to_diagnostic};
use input::{Feed, NoRecords};
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_transform::Columns;
use std::sync::Arc;
use tokio::runtime::Runtime;

/// The engine.
pub const KIND: EngineKind =
    EngineKind { name: "datafusion", open: |options| Box::new(DataFusion { options: Arc::new(options) }) };

/// Records that operators work on at a time.
const BATCH_RECORDS: usize = 4096;
/// Stack of the thread that plans: planning follows the nesting of a statement. Only what is touched becomes memory.
const PLANNING_STACK: usize = 256 << 20;

struct DataFusion {
    options: Arc<EngineOptions>,
}

impl SqlEngine for DataFusion {
    fn version(&self) -> String {
        format!("datafusion {}", datafusion::DATAFUSION_VERSION)
    }

    fn plan(&self, statement: &str, columns: &Columns) -> Result<Box<dyn Query>, Diagnostics> {
        let (output, kept) = with_stack(|| {
            let statement = statement::parse(statement)?;
            let no_records = Arc::new(NoRecords(columns.clone()));
            let session = session(no_records, RuntimeEnvBuilder::new().with_disk_manager_builder(no_disk()))?;
            let runtime = runtime()?;
            let plan = runtime.block_on(logical_plan(&session, statement, columns))?;
            let output = output::columns(plan.schema())?;
            let kept = (0..output.0.len()).map(|i| output::is_kept(plan.schema(), i)).collect();
            // What the optimiser finds wrong (types above all) is found now as well.
            let physical = runtime.block_on(session.create_physical_plan(&plan));
            physical.map_err(|e| to_diagnostic(&e, columns))?;
            Ok((output, kept))
        })?;
        let (statement, input) = (statement.to_owned(), columns.clone());
        Ok(Box::new(DataFusionQuery { options: self.options.clone(), statement, input, output, kept }))
    }
}

struct DataFusionQuery {
    options: Arc<EngineOptions>,
    statement: String,
    input: Columns,
    output: Columns,
    kept: Vec<bool>,
}

impl Query for DataFusionQuery {
    fn columns(&self) -> &Columns {
        &self.output
    }

    fn keeps(&self, column: usize) -> bool {
        self.kept.get(column).is_some_and(|kept| *kept)
    }

    fn run(&self, table: Arc<dyn Table>) -> Result<Records<'static>, Diagnostic> {
        let disk = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![self.options.spill.clone()]))
            .with_max_temp_directory_size(self.options.disk);
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(self.options.memory)))
            .with_disk_manager_builder(disk);
        let (runtime, session, plan) = with_stack(|| {
            let runtime = runtime()?;
            let statement = statement::parse(&self.statement)?;
            let session = session(table, environment)?;
            let plan = runtime.block_on(physical_plan(&session, statement, &self.input))?;
            Ok((runtime, session, plan))
        })
        .map_err(first)?;
        let stream = {
            let _inside = runtime.enter();
            plan.execute(0, session.task_ctx()).map_err(|e| to_diagnostic(&e, &self.input))?
        };
        Ok(Box::new(output::Rows::new(runtime, stream, &self.output, &self.input)))
    }
}

/// A session that knows one table, functions that always give the same, and nothing else: no files, no catalogues.
fn session(table: Arc<dyn Table>, environment: RuntimeEnvBuilder) -> Result<SessionState, Diagnostic> {
    let mut config = SessionConfig::new()
        .with_target_partitions(1)
        .with_batch_size(BATCH_RECORDS)
        .with_information_schema(false);
    // Data has columns such as `SalePrice`: names count as they are written.
    config.options_mut().sql_parser.enable_ident_normalization = false;
    config.options_mut().sql_parser.collect_spans = true;
    let environment = environment.build_arc().map_err(|e| internal(&e.to_string()))?;
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(environment)
        .with_expr_planners(Defaults::default_expr_planners())
        .with_scalar_functions(functions::scalar())
        .with_aggregate_functions(Defaults::default_aggregate_functions())
        .with_window_functions(Defaults::default_window_functions())
        .build();
    let columns = table.columns().clone();
    let feed: Arc<Feed> = Arc::new(Feed::new(table)?);
    let provider =
        StreamingTable::try_new(feed.arrow_schema(), vec![feed]).map_err(|e| to_diagnostic(&e, &columns))?;
    let context = SessionContext::new_with_state(state);
    context.register_table(TABLE, Arc::new(provider)).map_err(|e| to_diagnostic(&e, &columns))?;
    Ok(context.state())
}

async fn logical_plan(
    session: &SessionState,
    statement: Statement,
    columns: &Columns,
) -> Result<LogicalPlan, Diagnostic> {
    let plan = session.statement_to_plan(statement).await.map_err(|e| to_diagnostic(&e, columns))?;
    let only_reads =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    only_reads.verify_plan(&plan).map_err(|e| to_diagnostic(&e, columns))?;
    Ok(plan)
}

async fn physical_plan(
    session: &SessionState,
    statement: Statement,
    columns: &Columns,
) -> Result<Arc<dyn ExecutionPlan>, Diagnostic> {
    let plan = logical_plan(session, statement, columns).await?;
    let plan = session.create_physical_plan(&plan).await.map_err(|e| to_diagnostic(&e, columns))?;
    in_order::one_after_the_other(plan).map_err(|e| to_diagnostic(&e, columns))
}

fn no_disk() -> DiskManagerBuilder {
    DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled)
}

fn runtime() -> Result<Runtime, Diagnostic> {
    tokio::runtime::Builder::new_current_thread().build().map_err(|e| internal(&e.to_string()))
}

/// Runs `work` where deep nesting does not end the stack.
fn with_stack<T: Send>(work: impl FnOnce() -> Result<T, Diagnostics> + Send) -> Result<T, Diagnostics> {
    std::thread::scope(|scope| {
        let planner = std::thread::Builder::new().stack_size(PLANNING_STACK).spawn_scoped(scope, work);
        match planner.map(|handle| handle.join()) {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(internal("planning the statement ended early").into()),
            Err(error) => Err(internal(&error.to_string()).into()),
        }
    })
}

fn first(mut found: Diagnostics) -> Diagnostic {
    if found.0.is_empty() { internal("no reason was given") } else { found.0.swap_remove(0) }
}

//! An embedded broker for the demo: librdkafka's mock cluster. It keeps 5 MiB a partition, in memory.

use crate::log::LogError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

/// A broker inside this process.
pub struct EmbeddedBroker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl EmbeddedBroker {
    /// Starts one with these topics.
    pub fn start(topics: &[String], partitions: i32) -> Result<EmbeddedBroker, LogError> {
        let failed = |error: rdkafka::error::KafkaError| LogError::Fatal(error.to_string());
        let cluster = MockCluster::new(1).map_err(failed)?;
        for topic in topics {
            cluster.create_topic(topic, partitions, 1).map_err(failed)?;
        }
        Ok(EmbeddedBroker { cluster })
    }

    /// Where it listens.
    pub fn bootstrap_servers(&self) -> String {
        self.cluster.bootstrap_servers()
    }
}

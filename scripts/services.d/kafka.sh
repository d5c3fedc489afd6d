# shellcheck shell=bash
# Apache Kafka in KRaft mode: kafka is one broker, kafka3 three of them.

readonly KAFKA_VERSION=4.4.0
# Kafka's command-line tools are a module of their own and lag a release behind; they get a folder of their own.
readonly KAFKA_TOOLS_VERSION=4.3.1
readonly LOG4J_VERSION=2.25.5

kafka_jars() { echo "$HOME_DIR/lib/kafka-$KAFKA_VERSION"; }
kafka_tools() { echo "$HOME_DIR/lib/kafka-tools-$KAFKA_TOOLS_VERSION"; }

# Copies a Maven module with all it needs at run time to a folder, once.
fetch_jars() { # FOLDER MODULE VERSION [MODULE-TO-LEAVE-OUT]
  local build=$HOME_DIR/build/$2
  [[ ! -d $1 ]] || return 0
  say "fetching $2 $3"
  rm -rf "$build"
  mkdir -p "$build" "$HOME_DIR/lib"
  cat >"$build/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>services</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>$2</artifactId><version>$3</version>
      <exclusions><exclusion><groupId>org.apache.kafka</groupId><artifactId>${4:-none}</artifactId></exclusion></exclusions>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>$LOG4J_VERSION</version>
    </dependency>
  </dependencies>
</project>
POM
  mvn -B -q -f "$build/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$build/jars" \
    >"$build/log" 2>&1 || { tail -n 20 "$build/log" >&2; die "maven could not fetch $2 $3"; }
  mv "$build/jars" "$1"
}

fetch_kafka() {
  need java kafka
  need mvn kafka
  # kafka and kafka3 share the jars, so two calls may get here at once.
  # kafka-tools-api is not published for every version; a broker does without it, the tools do not.
  (
    flock 9
    fetch_jars "$(kafka_jars)" kafka_2.13 "$KAFKA_VERSION" kafka-tools-api
    fetch_jars "$(kafka_tools)" kafka-tools "$KAFKA_TOOLS_VERSION"
  ) 9>"$HOME_DIR/jars.lock"
}

# One id for all brokers of a cluster, kept until it is wiped.
cluster_id() { # NAME
  local file=$HOME_DIR/$1.cluster
  [[ -s $file ]] || head -c 16 /dev/urandom | base64 | tr '+/' '-_' | sed 's/=*$//; s/^[-_]/A/' >"$file"
  cat "$file"
}

# Combined broker and controller. Controllers listen 10 ports above the brokers.
write_kafka_config() { # INSTANCE DIR
  local name=${1%%.*} port peer voters='' copies=1 insync=1
  port=$(port_of "$1")
  [[ $name == kafka ]] || { copies=3 insync=2; }
  for peer in $(instances "$name"); do
    voters+=,$(number_of "$peer")@127.0.0.1:$(($(port_of "$peer") + 10))
  done
  cat >"$2/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=$(number_of "$1")
controller.quorum.voters=${voters#,}
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 10))
advertised.listeners=PLAINTEXT://127.0.0.1:$port
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=$2/data
auto.create.topics.enable=false
default.replication.factor=$copies
min.insync.replicas=$insync
offsets.topic.replication.factor=$copies
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=$copies
transaction.state.log.min.isr=$insync
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=$copies
share.coordinator.state.topic.min.isr=$insync
group.initial.rebalance.delay.ms=0
# Tests of a crashed member would else wait six seconds for its session to end.
group.min.session.timeout.ms=1000
# A broker killed and started again is refused until its old session has ended.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
# 8 MiB of value, and room for key, headers and batch.
message.max.bytes=9437184
replica.fetch.max.bytes=9437184
# Tests write records with old timestamps; a topic that wants retention sets its own.
log.retention.ms=-1
PROPERTIES
  cat >"$2/log4j2.properties" <<'LOG4J'
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c{1} %m%n
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
logger.server.name = kafka.server
logger.server.level = INFO
LOG4J
}

spawn_kafka() { # INSTANCE
  local dir id heap=768m
  dir=$(dir_of "$1")
  [[ $1 == kafka ]] || heap=512m
  mkdir -p "$dir"
  write_kafka_config "$1" "$dir"
  local java=(java -Xms128m "-Xmx$heap" -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError
    "-Dlog4j2.configurationFile=$dir/log4j2.properties" -cp "$(kafka_jars)/*")
  if [[ ! -f $dir/data/meta.properties ]]; then
    id=$(cluster_id "${1%%.*}")
    "${java[@]}" kafka.tools.StorageTool format --ignore-formatted -t "$id" -c "$dir/server.properties" \
      >"$dir/log" 2>&1 || fail "$1" "the storage could not be formatted"
  fi
  spawn "$1" "${java[@]}" kafka.Kafka "$dir/server.properties"
}

# A broker is ready once the cluster, asked by Kafka's own tool, lists it: registered and not fenced.
probe_kafka() { # INSTANCE
  timeout 60 java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$(kafka_tools)/*" \
    org.apache.kafka.tools.ClusterTool list-endpoints --bootstrap-server "127.0.0.1:$(port_of "$1")" 2>/dev/null |
    awk -v id="$(number_of "$1")" '$1 == id { found = 1 } END { exit !found }'
}

env_kafka() { # NAME
  local instance servers=''
  for instance in $(instances "$1"); do servers+=,127.0.0.1:$(port_of "$instance"); done
  echo "export KAFKA_BOOTSTRAP_SERVERS=${servers#,}"
  echo "export KAFKA_TOOLS_CLASSPATH='$(kafka_tools)/*'"
}

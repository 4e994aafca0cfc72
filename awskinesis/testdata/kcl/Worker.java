import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;

import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.http.Protocol;
import software.amazon.awssdk.http.nio.netty.NettyNioAsyncHttpClient;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.kinesis.common.ConfigsBuilder;
import software.amazon.kinesis.common.InitialPositionInStream;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.common.StreamConfig;
import software.amazon.kinesis.common.StreamIdentifier;
import software.amazon.kinesis.coordinator.Scheduler;
import software.amazon.kinesis.leases.LeaseAssignmentStrategy;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.metrics.NullMetricsFactory;
import software.amazon.kinesis.processor.FormerStreamsLeasesDeletionStrategy;
import software.amazon.kinesis.processor.MultiStreamTracker;
import software.amazon.kinesis.processor.RecordProcessorCheckpointer;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.processor.ShardRecordProcessorFactory;
import software.amazon.kinesis.processor.SingleStreamTracker;
import software.amazon.kinesis.processor.StreamTracker;
import software.amazon.kinesis.retrieval.KinesisClientRecord;
import software.amazon.kinesis.retrieval.polling.PollingConfig;
import software.amazon.kinesis.worker.metric.OperatingRange;
import software.amazon.kinesis.worker.metric.impl.linux.LinuxCpuWorkerMetric;

/**
 * A worker of the KCL that prints what happens to it, one line each:
 *
 * <pre>
 * init SHARD SEQUENCE SUBSEQUENCE PENDING STATE
 * record SHARD SEQUENCE SUBSEQUENCE KEY DATA
 * checkpoint SHARD SEQUENCE SUBSEQUENCE
 * end SHARD
 * </pre>
 *
 * It checkpoints after every third record. Told "hang" or "go on", it also prepares a checkpoint after
 * the 40th when all shards are under way, and hangs or goes on. Told "plain", "load" or "cpu", it prepares
 * none, and as the leader it assigns leases by their number or, as the KCL does by default, by the load. With
 * "cpu" it measures the utilization of the CPU, as the KCL does by default on AWS.
 * It stops gracefully when its input ends, and exits with 1 if it still processes a shard after that.
 *
 * With the property "streams", which has serialized stream identifiers divided by commas, it is in
 * multi-stream mode. Then a SHARD is printed behind the name of its stream and a slash.
 */
public class Worker implements ShardRecordProcessor {
    private static boolean hangs;
    private static boolean prepares;

    /** Shards of which records have come. The scheduler starts no shard while another one hangs. */
    private static final AtomicInteger started = new AtomicInteger();

    /** Processors that have begun, and have neither been told to stop nor reached the end of their shard. */
    private static final Set<Worker> processing = ConcurrentHashMap.newKeySet();

    /**
     * How long to wait for a graceful stop. It returns after about two seconds, or never: the KCL waits until
     * the consumer of each lease has counted down two latches, and two kinds of consumers do not.
     *
     * <ul>
     * <li>If the shard ended less than a tick ago, the consumer has run its last task and has no reason to
     * look at the latches again.
     * <li>If the shard waits for a parent, the consumer looks at the stop only when the parent has ended.
     * </ul>
     *
     * Neither processes records, so the worker can exit. Its leases expire, as they do after a stop that
     * returns, because the KCL gives no lease back.
     */
    private static final int STOP_SECONDS = 20;

    private final String stream;
    private String shard;
    private int count;
    private boolean prepared;

    public static void main(String[] args) throws Exception {
        String kinesisEndpoint = args[0], dynamoEndpoint = args[1], application = args[2], worker = args[3];
        hangs = args[4].equals("hang");
        prepares = hangs || args[4].equals("go on");
        StaticCredentialsProvider credentials = StaticCredentialsProvider.create(AwsBasicCredentials.create("a", "b"));
        KinesisAsyncClient kinesis = KinesisAsyncClient.builder().region(Region.EU_CENTRAL_1).credentialsProvider(credentials)
                .endpointOverride(URI.create(kinesisEndpoint)).httpClientBuilder(NettyNioAsyncHttpClient.builder().protocol(Protocol.HTTP1_1)).build();
        DynamoDbAsyncClient dynamo = DynamoDbAsyncClient.builder().region(Region.EU_CENTRAL_1).credentialsProvider(credentials)
                .endpointOverride(URI.create(dynamoEndpoint)).httpClientBuilder(NettyNioAsyncHttpClient.builder().protocol(Protocol.HTTP1_1)).build();
        CloudWatchAsyncClient cloudWatch = CloudWatchAsyncClient.builder().region(Region.EU_CENTRAL_1).credentialsProvider(credentials)
                .endpointOverride(URI.create(kinesisEndpoint)).build(); // which the factory below keeps from being called
        InitialPositionInStreamExtended start = InitialPositionInStreamExtended.newInitialPosition(InitialPositionInStream.TRIM_HORIZON);
        String streams = System.getProperty("streams");
        StreamTracker tracker = streams == null ? new SingleStreamTracker("orders", start) : new Streams(streams, start);
        ConfigsBuilder configs = new ConfigsBuilder(tracker, application, kinesis, dynamo, cloudWatch, worker, new Factory(streams != null));
        var leases = configs.leaseManagementConfig().failoverTimeMillis(3000).shardSyncIntervalMillis(1000);
        leases.dynamoDbLockBasedLeaderLeaseDurationInMillis(3000L);
        leases.dynamoDbLockBasedLeaderHeartbeatPeriodInMillis(1000L);
        if (args[4].equals("cpu")) {
            OperatingRange range = OperatingRange.builder().maxUtilization(100).build();
            leases.workerUtilizationAwareAssignmentConfig().workerMetricList(List.of(new LinuxCpuWorkerMetric(range)));
        } else {
            leases.workerUtilizationAwareAssignmentConfig().disableWorkerMetrics(true);
        }
        leases.workerUtilizationAwareAssignmentConfig().inMemoryWorkerMetricsCaptureFrequencyMillis(1000L);
        if (args[4].equals("plain")) {
            leases.leaseAssignmentStrategy(LeaseAssignmentStrategy.LEASE_COUNT_BASED); // so that each worker gets some
        }
        var coordinator = configs.coordinatorConfig().parentShardPollIntervalMillis(500).shardConsumerDispatchPollIntervalMillis(200);
        PollingConfig polling = (streams == null ? new PollingConfig("orders", kinesis) : new PollingConfig(kinesis)).maxRecords(20).idleTimeBetweenReadsInMillis(200);
        Scheduler scheduler = new Scheduler(configs.checkpointConfig(), coordinator, leases, configs.lifecycleConfig(),
                configs.metricsConfig().metricsFactory(new NullMetricsFactory()), configs.processorConfig(),
                configs.retrievalConfig().retrievalSpecificConfig(polling));
        Thread thread = new Thread(scheduler);
        thread.setDaemon(true);
        thread.start();
        while (System.in.read() >= 0) {
        }
        boolean stopped = true;
        try {
            scheduler.startGracefulShutdown().get(STOP_SECONDS, TimeUnit.SECONDS);
        } catch (TimeoutException e) {
            stopped = processing.isEmpty();
            System.err.println("the scheduler does not stop, and still processes " + processing.size() + " shards");
        }
        System.exit(stopped ? 0 : 1);
    }

    /** Makes processors, which say the name of their stream if there are several. */
    private static class Factory implements ShardRecordProcessorFactory {
        private final boolean several;

        Factory(boolean several) {
            this.several = several;
        }

        @Override
        public ShardRecordProcessor shardRecordProcessor() {
            return new Worker("");
        }

        @Override
        public ShardRecordProcessor shardRecordProcessor(StreamIdentifier stream) {
            return new Worker(several ? stream.streamName() + "/" : "");
        }
    }

    /** The streams of a worker in multi-stream mode. */
    private static class Streams implements MultiStreamTracker {
        private final List<StreamConfig> streams = new ArrayList<>();

        Streams(String serialized, InitialPositionInStreamExtended start) {
            for (String stream : serialized.split(",")) {
                streams.add(new StreamConfig(StreamIdentifier.multiStreamInstance(stream), start));
            }
        }

        @Override
        public List<StreamConfig> streamConfigList() {
            return streams;
        }

        @Override
        public FormerStreamsLeasesDeletionStrategy formerStreamsLeasesDeletionStrategy() {
            return new FormerStreamsLeasesDeletionStrategy.NoLeaseDeletionStrategy();
        }
    }

    private Worker(String stream) {
        this.stream = stream;
    }

    private static synchronized void say(Object... words) {
        List<String> texts = new ArrayList<>();
        for (Object word : words) {
            texts.add(String.valueOf(word));
        }
        System.out.println(String.join(" ", texts));
    }

    @Override
    public void initialize(InitializationInput input) {
        processing.add(this);
        shard = stream + input.shardId();
        byte[] state = input.pendingCheckpointState();
        say("init", shard, input.extendedSequenceNumber().sequenceNumber(), input.extendedSequenceNumber().subSequenceNumber(),
                input.pendingCheckpointSequenceNumber() == null ? "none" : input.pendingCheckpointSequenceNumber().sequenceNumber(),
                state == null ? "none" : new String(state, StandardCharsets.UTF_8));
    }

    @Override
    public void processRecords(ProcessRecordsInput input) {
        if (count == 0) {
            started.incrementAndGet();
        }
        for (KinesisClientRecord record : input.records()) {
            say("record", shard, record.sequenceNumber(), record.subSequenceNumber(), record.partitionKey(), StandardCharsets.UTF_8.decode(record.data()));
            try {
                if (++count % 3 == 0) {
                    input.checkpointer().checkpoint(record.sequenceNumber(), record.subSequenceNumber());
                    say("checkpoint", shard, record.sequenceNumber(), record.subSequenceNumber());
                }
                if (prepares && count > 40 && !prepared && started.get() > 1) {
                    prepared = true;
                    input.checkpointer().prepareCheckpoint(record.sequenceNumber(), record.subSequenceNumber(), "prepared".getBytes(StandardCharsets.UTF_8));
                    say("prepared", shard, record.sequenceNumber(), record.subSequenceNumber());
                    while (hangs) {
                        Thread.sleep(1000);
                    }
                }
                Thread.sleep(10);
            } catch (Exception e) {
                say("failed", shard, e);
                return;
            }
        }
    }

    @Override
    public void leaseLost(LeaseLostInput input) {
        processing.remove(this);
        say("lost", shard);
    }

    @Override
    public void shardEnded(ShardEndedInput input) {
        try {
            input.checkpointer().checkpoint();
            processing.remove(this);
            say("end", shard);
        } catch (Exception e) {
            say("failed", shard, e);
        }
    }

    @Override
    public void shutdownRequested(ShutdownRequestedInput input) {
        try {
            input.checkpointer().checkpoint();
            processing.remove(this);
            say("stopped", shard);
        } catch (Exception e) {
            say("failed", shard, e);
        }
    }
}

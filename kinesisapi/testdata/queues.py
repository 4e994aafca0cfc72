"""Calls all operations on queues with boto3. Its argument is the URL of a server."""

import re
import sys
import time
from datetime import datetime, timezone
from threading import Thread

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

CREDENTIALS = dict(region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any")
called = set()


def connect(**more):
    client = boto3.client("kinesis", config=Config(retries={"total_max_attempts": 1}), **CREDENTIALS, **more)
    client.meta.events.register("before-call.kinesis", lambda model, **_: called.add(model.name))
    return client


def code(call, **arguments):
    """The error that a call fails with."""
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    raise AssertionError("the call succeeded")


def host(call, **arguments):
    """The host that a client without an endpoint would call."""
    seen = []

    def note(request, **_):
        seen.append(request.url)
        raise StopIteration

    aws = connect()
    aws.meta.events.register("before-send.kinesis", note)
    try:
        getattr(aws, call)(**arguments)
    except Exception:  # what became of it does not matter
        pass
    return re.match(r"https://([^/]+)/", seen[0]).group(1)


client = connect(endpoint_url=sys.argv[1])
client.create_stream(StreamName="orders")
client.get_waiter("stream_exists").wait(StreamName="orders", WaiterConfig={"Delay": 1, "MaxAttempts": 10})
stream = client.describe_stream_summary(StreamName="orders")["StreamDescriptionSummary"]
assert stream["QueueCount"] == 0, stream
config = [{"StreamARN": stream["StreamARN"], "StartingPosition": {"Type": "TRIM_HORIZON"}}]

created = client.create_queue(QueueName="mail", StreamConfigurationList=config, Tags={"team": "red"})["QueueDescription"]
assert created["QueueStatus"] == "CREATING", created
queue = created["QueueARN"]
described = client.describe_queue(QueueARN=queue)["QueueDescription"]
assert described["QueueStatus"] == "ACTIVE", described
assert isinstance(described["StreamConfigurationList"][0]["StartingPosition"]["Timestamp"], datetime), described
assert described["QueueAttributes"] == {
    "VisibilityTimeoutSeconds": 30,
    "DeadLetterConfiguration": {"TargetType": "BUILT_IN", "MaxReceiveCount": 6},
}, described
assert client.list_tags_for_resource(ResourceARN=queue)["Tags"] == [{"Key": "team", "Value": "red"}]
assert code(client.create_queue, QueueName="mail", StreamConfigurationList=config) == "ResourceInUseException"
assert code(client.delete_stream, StreamName="orders", EnforceConsumerDeletion=True) == "ResourceInUseException"

# The ARN makes the host that the SDK calls where no endpoint is given.
name = queue.rpartition("/")[2]
assert host("describe_queue", QueueARN=queue).startswith(name + ".control-kinesis-queues.us-east-1."), queue
assert host("receive_queue_records", QueueARN=queue).startswith(name + ".data-kinesis-queues.us-east-1."), queue

# A record is received, comes again, and is acknowledged.
Thread(target=lambda: (time.sleep(0.2), client.put_record(StreamName="orders", PartitionKey="k", Data=b"\x00\xff"))).start()
first = client.receive_queue_records(QueueARN=queue, WaitTimeSeconds=20)["QueueRecords"][0]
assert (first["Data"], first["PartitionKey"], first["ReceiveCount"]) == (b"\x00\xff", "k", 1), first
assert abs((datetime.now(timezone.utc) - first["FirstReceiveTimestamp"]).total_seconds()) < 60, first
handle = [{"ReceiptHandle": first["ReceiptHandle"], "VisibilityTimeoutSeconds": 0}]
changed = client.update_queue_records_visibility(QueueARN=queue, Entries=handle)
assert changed["Successful"] == [{"ReceiptHandle": first["ReceiptHandle"]}] and changed["Failed"] == [], changed
again = client.receive_queue_records(QueueARN=queue)["QueueRecords"][0]
assert (again["RecordId"], again["ReceiveCount"]) == (first["RecordId"], 2), again
answer = client.acknowledge_queue_records(
    QueueARN=queue, Entries=[{"ReceiptHandle": h} for h in (first["ReceiptHandle"], "invented")]
)
assert [e["ErrorCode"] for e in answer["Failed"]] == ["InvalidArgumentException"] * 2, answer
answer = client.acknowledge_queue_records(QueueARN=queue, Entries=[{"ReceiptHandle": again["ReceiptHandle"]}])
assert len(answer["Successful"]) == 1 and not answer["Failed"], answer
assert client.receive_queue_records(QueueARN=queue, WaitTimeSeconds=1)["QueueRecords"] == []

# Another one dies, is hidden and received again, restored, dies once more, and is discarded.
updated = client.update_queue(
    QueueARN=queue, QueueAttributes={"DeadLetterConfiguration": {"TargetType": "BUILT_IN", "MaxReceiveCount": 1}}
)["QueueDescription"]
assert updated["QueueStatus"] == "UPDATING", updated
client.put_record(StreamName="orders", PartitionKey="k", Data=b"bad")
client.receive_queue_records(QueueARN=queue, VisibilityTimeoutSeconds=0)
for last in (False, True):
    dead = client.receive_dead_letter_queue_records(QueueARN=queue)["QueueRecords"][0]
    entries = [{"ReceiptHandle": dead["ReceiptHandle"]}]
    if last:
        answer = client.acknowledge_dead_letter_queue_records(QueueARN=queue, Entries=entries)
    else:
        client.update_dead_letter_queue_records_visibility(
            QueueARN=queue, Entries=[{"ReceiptHandle": dead["ReceiptHandle"], "VisibilityTimeoutSeconds": 0}]
        )
        dead = client.receive_dead_letter_queue_records(QueueARN=queue)["QueueRecords"][0]
        entries = [{"ReceiptHandle": dead["ReceiptHandle"]}]
        answer = client.restore_dead_letter_queue_records(QueueARN=queue, Entries=entries)
        back = client.receive_queue_records(QueueARN=queue, VisibilityTimeoutSeconds=0)["QueueRecords"][0]
        assert (back["Data"], back["ReceiveCount"]) == (b"bad", 1), back
    assert len(answer["Successful"]) == 1 and not answer["Failed"], answer
assert client.receive_dead_letter_queue_records(QueueARN=queue, WaitTimeSeconds=1)["QueueRecords"] == []

for i in range(3):
    client.create_queue(QueueName=f"more-{i}", StreamConfigurationList=config)
pages = client.get_paginator("list_queues").paginate(
    StreamFilter=[{"StreamARN": stream["StreamARN"], "StreamCreationTimestamp": stream["StreamCreationTimestamp"]}],
    PaginationConfig={"PageSize": 1},
)
listed = [q for page in pages for q in page["QueueSummaries"]]
assert [q["QueueName"] for q in listed] == ["mail", "more-0", "more-1", "more-2"], listed
for q in listed:
    client.delete_queue(QueueARN=q["QueueARN"])
assert code(client.receive_queue_records, QueueARN=queue) == "ResourceNotFoundException"
client.delete_stream(StreamName="orders")
print(sum("Queue" in operation for operation in called), "operations")

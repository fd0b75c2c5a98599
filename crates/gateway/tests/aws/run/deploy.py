"""Deploys the template, and calls what it made.

    deploy.py ENDPOINT deploy BINARY QUEUE  standard input: a template; output: what is there then
    deploy.py ENDPOINT call FUNCTION        standard output: its answer and its log

All of it JSON. BINARY goes into a zip as a function has it. QUEUE is where senders read: it is
there before.
"""

import base64
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile

import boto3
from botocore.config import Config

endpoint, verb, *rest = sys.argv[1:]
BUCKET, KEY, STACK = "code", "nightgate.zip", "nightgate"


def client(service):
    return boto3.client(
        service,
        region_name="ap-northeast-2",
        endpoint_url=endpoint,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        # A call of a function takes as long as the function.
        config=Config(read_timeout=300, retries={"max_attempts": 0}),
    )


def zipped(binary):
    """`bootstrap` in a zip: executable, and without what only debuggers need."""
    folder = tempfile.mkdtemp()
    small = os.path.join(folder, "bootstrap")
    subprocess.run(["strip", "-o", small, binary], check=True)
    entry = zipfile.ZipInfo("bootstrap")
    entry.external_attr = 0o100755 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    raw = io.BytesIO()
    with open(small, "rb") as file, zipfile.ZipFile(raw, "w") as archive:
        archive.writestr(entry, file.read(), compresslevel=1)
    os.remove(small)
    os.rmdir(folder)
    return raw.getvalue()


def deploy(binary, queue):
    s3, cfn, sqs = client("s3"), client("cloudformation"), client("sqs")
    place = {"LocationConstraint": "ap-northeast-2"}
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=zipped(binary))
    sqs.create_queue(QueueName=queue)
    told = {
        "CodeBucket": BUCKET,
        "CodeKey": KEY,
        "TargetQueueName": queue,
        "SecondZone": "Asia/Tokyo",
        "AlarmEmail": "ops@example.com",
        "Map": '{ purpose = "@purpose | =advertising", channel = "@channel | =sms", '
        'recipient = "/to", send_at = "@send-at" }',
    }
    cfn.create_stack(
        StackName=STACK,
        TemplateBody=sys.stdin.read(),
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value} for key, value in told.items()
        ],
        Capabilities=["CAPABILITY_IAM"],
    )
    cfn.get_waiter("stack_create_complete").wait(
        StackName=STACK, WaiterConfig={"Delay": 1, "MaxAttempts": 120}
    )
    json.dump(there(), sys.stdout, default=str)


def there():
    """Everything that the stack made, asked of each service."""
    cfn, sqs, dynamodb = client("cloudformation"), client("sqs"), client("dynamodb")
    functions, alarms = client("lambda"), client("cloudwatch")
    queues = {}
    for url in sqs.list_queues()["QueueUrls"]:
        told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        queues[url.rsplit("/", 1)[1]] = {"url": url, **told["Attributes"]}
    resources = cfn.describe_stack_resources(StackName=STACK)["StackResources"]
    return {
        "resources": {
            one["LogicalResourceId"]: one["ResourceStatus"] for one in resources
        },
        "queues": queues,
        "table": dynamodb.describe_table(TableName="nightgate")["Table"],
        "alarms": [one["AlarmName"] for one in alarms.describe_alarms()["MetricAlarms"]],
        "schedules": [one["Name"] for one in client("scheduler").list_schedules()["Schedules"]],
        "functions": {
            one["FunctionName"]: one["Environment"]["Variables"]
            for one in functions.list_functions()["Functions"]
        },
        "mappings": functions.list_event_source_mappings()["EventSourceMappings"],
    }


def call(function):
    answer = client("lambda").invoke(
        FunctionName=function,
        Payload=json.dumps({"source": "aws.scheduler"}),
        LogType="Tail",
    )
    log = base64.b64decode(answer.get("LogResult", "")).decode(errors="replace")
    payload = json.load(answer["Payload"])
    json.dump({"error": answer.get("FunctionError"), "payload": payload, "log": log}, sys.stdout)


deploy(*rest) if verb == "deploy" else call(*rest)

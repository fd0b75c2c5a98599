"""Another client of SQS: writes messages to a queue, or reads them.

    boto.py ENDPOINT write QUEUE   standard input: a JSON list of messages
    boto.py ENDPOINT read QUEUE N  standard output: a JSON list of N messages

A message is {"body", "attributes": {NAME: {"DataType", "StringValue" or "BinaryValue"}}}, with
binary values as base64. What is read is put in order by body.
"""

import base64
import json
import sys

import boto3

endpoint, verb, queue, *rest = sys.argv[1:]
sqs = boto3.client(
    "sqs",
    region_name="ap-northeast-2",
    endpoint_url=endpoint,
    aws_access_key_id="test",
    aws_secret_access_key="test",
)


def with_binary(attributes, change):
    both = {name: dict(value) for name, value in attributes.items()}
    for value in both.values():
        if "BinaryValue" in value:
            value["BinaryValue"] = change(value["BinaryValue"])
    return both


def write():
    for message in json.load(sys.stdin):
        sqs.send_message(
            QueueUrl=queue,
            MessageBody=message["body"],
            MessageAttributes=with_binary(message["attributes"], base64.b64decode),
        )


def read(count):
    found, empty = [], 0
    while len(found) < count and empty < 5:
        answer = sqs.receive_message(
            QueueUrl=queue,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=1,
            MessageAttributeNames=["All"],
        )
        messages = answer.get("Messages", [])
        empty = 0 if messages else empty + 1
        for message in messages:
            attributes = message.get("MessageAttributes", {})
            text = with_binary(attributes, lambda raw: base64.b64encode(raw).decode())
            found.append({"body": message["Body"], "attributes": text})
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    found.sort(key=lambda message: message["body"])
    json.dump(found, sys.stdout)


write() if verb == "write" else read(int(rest[0]))

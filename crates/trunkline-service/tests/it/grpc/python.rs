//! A client that knows nothing of Trunkline: what it finds out by itself, and calls.

use super::*;

/// Finds the service by reflection in both versions, asks for its health, and calls it without generated code.
const CLIENT: &str = r#"
import sys, grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

channel = grpc.insecure_channel(sys.argv[1])
found = ProtoReflectionDescriptorDatabase(channel)
print("services", *sorted(found.get_services()))
pool = descriptor_pool.DescriptorPool(found)
stock = pool.FindServiceByName("stock.v1.Stock")
method = stock.FindMethodByName("Reserve")
question, answer = [message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type)]
level = message_factory.GetMessageClass(stock.FindMethodByName("Watch").output_type)
ways = dict(request_serializer=lambda m: m.SerializeToString())
reserve = channel.unary_unary("/stock.v1.Stock/Reserve", response_deserializer=answer.FromString, **ways)
watch = channel.unary_stream("/stock.v1.Stock/Watch", response_deserializer=level.FromString, **ways)
count = channel.stream_stream("/stock.v1.Stock/Count", response_deserializer=level.FromString, **ways)
print("reserved", reserve(question(sku="tea", quantity=2), timeout=10).id)
print("watched", *[one.quantity for one in watch(question(sku="tea", quantity=3), timeout=10)])
lines = iter([question(sku="tea", quantity=n) for n in (4, 5)])
print("counted", *[one.quantity for one in count(lines, timeout=10)])
for sku, timeout in (("closed", 10), ("pauses", 0.3)):
    try:
        [one for one in watch(question(sku="pauses", quantity=1), timeout=timeout)] if sku == "pauses" else reserve(question(sku=sku), timeout=timeout)
    except grpc.RpcError as error:
        details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        # Which side notices first that the time is up is open.
        told = error.details() if sku == "closed" else ""
        print(sku, error.code().name, told, b"SHELF_CLOSED" in details)
health = health_pb2_grpc.HealthStub(channel)
name = health_pb2.HealthCheckResponse.ServingStatus.Name
for service in ("", "stock.v1.Stock"):
    print("health", service, name(health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status))
try:
    health.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=10)
except grpc.RpcError as error:
    print("nobody", error.code().name)
watched = health.Watch(health_pb2.HealthCheckRequest(service="stock.v1.Stock"), timeout=10)
print("first", name(next(watched).status))
watched.cancel()
newer = channel.stream_stream(
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    request_serializer=lambda m: m, response_deserializer=lambda m: m)
print("v1", b"stock.v1.Stock" in next(newer(iter([b":\x00"]), timeout=10)))
"#;

#[tokio::test]
async fn python_finds_the_service_its_health_and_its_methods() {
    let here = Here::start().await;
    let address = here.running.service_address("room").unwrap().to_string();
    let mut python = trunkline_testkit::python::program(CLIENT);
    let said = tokio::task::spawn_blocking(move || python.arg(address).output());
    let said = tokio::time::timeout(SOON * 3, said)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let failed = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{text}\n{failed}");
    let lines: Vec<&str> = text.lines().collect();
    let expected = [
        "services grpc.health.v1.Health grpc.reflection.v1alpha.ServerReflection stock.v1.Stock",
        "reserved tea-2",
        "watched 1 2 3",
        "counted 4 5",
        "closed FAILED_PRECONDITION the shelf is closed True",
        "pauses DEADLINE_EXCEEDED  False",
        "health  SERVING",
        "health stock.v1.Stock SERVING",
        "nobody NOT_FOUND",
        "first SERVING",
        "v1 True",
    ];
    assert_eq!(lines, expected);
    here.stop().await;
}

package io.athenaflight.client;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.function.BooleanSupplier;
import org.apache.arrow.flight.Action;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.Location;
import org.apache.arrow.memory.RootAllocator;

/**
 * The servers that the tests ask. tests/clients/test_java.py of the repository starts them and says where they are; without
 * it the tests that need one are skipped.
 */
final class Servers {
  private Servers() {}

  /** A property that the starter sets. */
  static String said(String name) {
    String found = System.getProperty("athena." + name);
    assumeTrue(found != null, "no servers: run pytest tests/clients/test_java.py");
    return found;
  }

  /** A client of the server with the demo's datasets and those of tests/clients/datasets. */
  static FlightDataClient client() {
    return FlightDataClient.connect(said("url"));
  }

  /** A client of the server that does on demand what healthy ones do not (tests/clients/scripted.py). */
  static FlightDataClient scripted() {
    return FlightDataClient.connect(said("scripted"));
  }

  /** What an action of the scripted server tells about a dataset. */
  static String told(String action, String dataset) {
    try (RootAllocator allocator = new RootAllocator();
        FlightClient raw = raw(allocator, said("scripted"))) {
      byte[] body = Values.encode(Map.of("dataset", dataset));
      return new String(raw.doAction(new Action(action, body)).next().getBody());
    } catch (InterruptedException error) {
      throw new IllegalStateException(error);
    }
  }

  /** Arrow's own client, without anything of ours. */
  static FlightClient raw(RootAllocator allocator, String url) {
    String[] parts = url.replace("grpc://", "").split(":");
    Location location = Location.forGrpcInsecure(parts[0], Integer.parseInt(parts[1]));
    return FlightClient.builder(allocator, location).build();
  }

  /** A golden file (tests/golden/README.md), as Jackson reads it. */
  static <T> T golden(String name, Class<T> type) {
    try {
      return Values.decode(Files.readAllBytes(Path.of(said("golden"), name + ".json")), type);
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  static void until(BooleanSupplier happened) throws InterruptedException {
    for (int tries = 0; !happened.getAsBoolean(); tries++) {
      if (tries > 2_000) {
        throw new AssertionError("it did not happen in time");
      }
      Thread.sleep(10);
    }
  }
}

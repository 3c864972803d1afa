package io.athenaflight.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.athenaflight.client.FlightDataException.Unavailable;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** PEM files that are replaced while a client lives. */
@Timeout(60)
class CertificatesTest {
  @TempDir Path folder;
  private Path roots;
  private Path certificate;
  private Path key;

  @BeforeEach
  void write() throws IOException {
    roots = put("ca", "ca.pem");
    certificate = put("cert", "client.pem");
    key = put("key", "client.key");
  }

  @Test
  void aClientCertificateThatIsReplacedIsFoundByTheNextConnection() throws Exception {
    put("stranger.cert", "client.pem");
    put("stranger.key", "client.key");
    try (Forwarder between = Forwarder.to(Servers.said("mtls"));
        FlightDataClient client = connected(between)) {
      assertThrows(FlightDataException.class, client::datasets);
      put("cert", "client.pem");
      put("key", "client.key");
      Servers.until(() -> answers(client));
      assertEquals("pricing", client.whoami().name());
    }
  }

  @Test
  void anAuthorityThatIsReplacedIsFoundByTheNextConnection() throws Exception {
    try (Forwarder between = Forwarder.to(Servers.said("mtls"));
        FlightDataClient client = connected(between)) {
      client.datasets();
      put("stranger", "ca.pem");
      // What is connected stays so.
      client.datasets();
      between.cut();
      Servers.until(() -> !answers(client));
      Servers.until(() -> said(client).contains("tlsRoots names the PEM file"));
      put("ca", "ca.pem");
      Servers.until(() -> answers(client));
    }
  }

  @Test
  void filesThatAreNoneLeaveThoseReadLastInForce() throws Exception {
    try (Forwarder between = Forwarder.to(Servers.said("mtls"));
        FlightDataClient client = connected(between)) {
      client.datasets();
      Files.writeString(roots, "-----BEGIN CERTIFICATE-----\nMIIB");
      Files.delete(key);
      between.cut();
      Servers.until(() -> answers(client) && between.connections() > 1);
    }
  }

  @Test
  void filesThatAreNoneAreToldAtOnce() throws IOException {
    Files.writeString(certificate, "no certificate");
    ClientBuilder wrong = FlightDataClient.builder("grpc+tls://localhost:1").tlsRoots(roots);
    IllegalArgumentException error =
        assertThrows(IllegalArgumentException.class, () -> wrong.clientCertificate(certificate, key).connect());
    assertTrue(error.getMessage().contains(certificate.toString()), error.getMessage());
  }

  private FlightDataClient connected(Forwarder between) {
    return FlightDataClient.builder(between.url().replace("grpc", "grpc+tls"))
        .tlsRoots(roots)
        .clientCertificate(certificate, key)
        .connect();
  }

  /** A call just as its connection ends, or between two tries of gRPC to connect, is told that there is no answer. */
  private static boolean answers(FlightDataClient client) {
    try {
      client.datasets();
      return true;
    } catch (Unavailable error) {
      return false;
    }
  }

  private static String said(FlightDataClient client) {
    return assertThrows(Unavailable.class, client::datasets).said();
  }

  private Path put(String said, String name) throws IOException {
    return Files.copy(Path.of(Servers.said(said)), folder.resolve(name), StandardCopyOption.REPLACE_EXISTING);
  }
}

package io.athenaflight.client;

import com.fasterxml.jackson.annotation.JsonProperty;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.apache.arrow.memory.RootAllocator;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.ipc.ArrowStreamWriter;

/**
 * Asks questions and writes each answer as an Arrow stream: {@code AnswersToFiles URL QUESTIONS.json FOLDER}. Driven by
 * tests/clients/test_five_ways.py of the repository.
 */
public final class AnswersToFiles {
  record Question(
      @JsonProperty("name") String name,
      @JsonProperty("dataset") String dataset,
      @JsonProperty("params") Map<String, Object> params) {}

  private AnswersToFiles() {}

  public static void main(String[] args) throws IOException {
    try (FlightDataClient client = FlightDataClient.connect(args[0])) {
      for (Question question : Values.decode(Files.readAllBytes(Path.of(args[1])), Question[].class)) {
        Map<String, Object> params = Typed.arguments(client.describe(question.dataset), question.params);
        try (BatchStream rows = client.stream(question.dataset, params);
            OutputStream file = Files.newOutputStream(Path.of(args[2], question.name + ".arrows"))) {
          write(rows, file);
        }
      }
    }
  }

  private static void write(BatchStream rows, OutputStream file) throws IOException {
    // Of an answer without rows there is no batch, but a schema; the root of one with rows is filled anew each time.
    try (RootAllocator allocator = new RootAllocator();
        VectorSchemaRoot empty = VectorSchemaRoot.create(rows.schema(), allocator);
        ArrowStreamWriter writer = new ArrowStreamWriter(rows.hasNext() ? rows.next() : empty, null, file)) {
      writer.start();
      writer.writeBatch();
      while (rows.hasNext()) {
        rows.next();
        writer.writeBatch();
      }
      writer.end();
    }
  }
}

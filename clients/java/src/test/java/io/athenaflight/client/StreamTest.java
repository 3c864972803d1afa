package io.athenaflight.client;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.athenaflight.client.FlightDataException.InvalidRequest;
import io.athenaflight.client.FlightDataException.Unavailable;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.concurrent.CompletableFuture;
import org.apache.arrow.memory.RootAllocator;
import org.apache.arrow.vector.FieldVector;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.types.pojo.Field;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class StreamTest {
  private static final Map<String, Object> JANUARY =
      Map.of("ticker", "AAPL", "start_date", LocalDate.of(2010, 1, 4), "end_date", LocalDate.of(2010, 1, 29));

  /** The contract's limit of a batch. */
  private static final int BATCH_ROWS_MAX = 65_536;

  @Test
  void pricesHaveTheirValuesInTheirOrder() {
    try (FlightDataClient client = Servers.client();
        BatchStream prices = client.stream("daily_prices", JANUARY)) {
      List<Object> days = new ArrayList<>();
      List<Object> closes = new ArrayList<>();
      for (VectorSchemaRoot batch : prices) {
        days.addAll(column(batch, "trade_date"));
        closes.addAll(column(batch, "close"));
        assertEquals(List.of("AAPL"), column(batch, "ticker").stream().map(Object::toString).distinct().toList());
      }
      assertEquals(19, days.size());
      assertEquals((int) LocalDate.of(2010, 1, 4).toEpochDay(), days.get(0));
      assertEquals((int) LocalDate.of(2010, 1, 29).toEpochDay(), days.get(18));
      assertEquals(List.of(214.01f, 214.38f, 210.97f), closes.subList(0, 3));
    }
  }

  @Test
  void everyColumnTypeHasItsValues() {
    List<Object> row = everyColumn(1);
    assertArrayEquals("ab".getBytes(StandardCharsets.UTF_8), (byte[]) row.remove(11));
    assertEquals(
        "[1, true, -7, 300, -70000, 9007199254740993, 0.1, 0.1, -12345.6789, 1E-10, it's 삼성 𝔸, "
            + LocalDate.of(2024, 2, 29).toEpochDay()
            + ", "
            + LocalTime.of(10, 11, 12).toNanoOfDay() / 1_000
            + ", 2024-02-29T10:11:12.123456, "
            + micros("2024-02-29T10:11:12.123456Z")
            + ", [1,null,3], [{\"key\":\"a\",\"value\":1},{\"key\":\"b\"}]"
            + ", {\"x\":1,\"y\":\"a\"}, [[\"a\",null],null]]",
        row.toString());
    assertEquals(9_007_199_254_740_993L, row.get(5));
    assertEquals(new BigDecimal("-12345.6789"), row.get(8));
    assertEquals(new BigDecimal("0.0000000001"), row.get(9));
    assertEquals(LocalDateTime.of(2024, 2, 29, 10, 11, 12, 123_456_000), row.get(13));
    assertEquals(Arrays.asList(1, null, 3), row.get(15));
  }

  @Test
  void theEdgesOfEveryTypeArrive() {
    List<Object> row = everyColumn(2);
    assertEquals(
        Arrays.asList((byte) -128, (short) -32_768, Integer.MIN_VALUE, Long.MIN_VALUE + 1, Float.MIN_VALUE),
        row.subList(2, 7));
    assertEquals(Double.MAX_VALUE, row.get(7));
    assertEquals(new BigDecimal("99999999999999.9999"), row.get(8));
    assertEquals(new BigDecimal("-9999999999999999999999999999.9999999999"), row.get(9));
    assertEquals("", row.get(10).toString());
    assertEquals(0, ((byte[]) row.get(11)).length);
    assertEquals((int) LocalDate.of(1, 1, 1).toEpochDay(), row.get(12));
    assertEquals(LocalDateTime.of(1, 1, 1, 0, 0, 0, 1_000), row.get(14));
    assertEquals(micros("9999-12-31T23:59:59.999999Z"), row.get(15));
    assertEquals(List.of(), row.get(16));
    assertEquals(List.of(), row.get(17));
  }

  @Test
  void nullsAreNullsInEveryType() {
    List<Object> row = everyColumn(3);
    assertEquals(20, row.size());
    assertEquals(3, row.remove(0));
    assertTrue(row.stream().allMatch(value -> value == null), row.toString());
  }

  @Test
  void parametersOfEveryTypeComeBackAsTheyWent() {
    Map<String, Object> params =
        Map.ofEntries(
            Map.entry("flag", true),
            Map.entry("small", Integer.MIN_VALUE),
            Map.entry("large", 9_007_199_254_740_993L),
            Map.entry("ratio", 0.1),
            Map.entry("amount", new BigDecimal("12345.6789")),
            Map.entry("word", "it's ; -- ? \\ 삼성 𝔸"),
            Map.entry("side", "sell"),
            Map.entry("day", LocalDate.of(2024, 2, 29)),
            Map.entry("moment", LocalDateTime.of(2024, 2, 29, 12, 30, 0, 123_456_000)),
            Map.entry("instant", Instant.parse("2024-02-29T12:30:00.000001Z")),
            Map.entry("numbers", List.of(1, 4, 99)),
            Map.entry("weights", Map.of(1, new BigDecimal("0.6"), 2, 0.4)));
    try (FlightDataClient client = Servers.client();
        BatchStream rows = client.stream("every_type", params)) {
      List<Object> row = row(rows.next(), 0);
      assertFalse(rows.hasNext());
      assertEquals(
          Arrays.asList(true, Integer.MIN_VALUE, 9_007_199_254_740_993L, 0.1, new BigDecimal("12345.6789")),
          row.subList(0, 5));
      assertEquals("[it's ; -- ? \\ 삼성 𝔸, sell]", row.subList(5, 7).toString());
      assertEquals(
          Arrays.asList(
              (int) LocalDate.of(2024, 2, 29).toEpochDay(),
              LocalDateTime.of(2024, 2, 29, 12, 30, 0, 123_456_000),
              micros("2024-02-29T12:30:00.000001Z"),
              2L,
              0.4),
          row.subList(7, 12));
      assertEquals("none", row.get(12).toString());
    }
  }

  @Test
  void anEmptyResultHasItsSchemaAndNoBatch() {
    try (FlightDataClient client = Servers.client();
        BatchStream rows = client.stream("every_column", Map.of("last", 0))) {
      assertFalse(rows.hasNext());
      assertFalse(rows.hasNext());
      assertThrows(NoSuchElementException.class, rows::next);
      Field amount = rows.schema().findField("amount");
      assertEquals("Decimal(18, 4, 128)", amount.getType().toString());
      assertFalse(rows.schema().findField("row").isNullable());
      assertEquals("USD", rows.schema().findField("single").getMetadata().get("unit"));
      assertEquals("every_column", rows.schema().getCustomMetadata().get("athena_flight.dataset"));
      assertEquals(0, client.allocatedBytes());
    }
  }

  @Test
  void aBigResultComesInBoundedBatchesAndLeavesNothing() {
    long rows = 0;
    int batches = 0;
    try (FlightDataClient client = Servers.client();
        BatchStream big = client.stream("big", Map.of())) {
      for (VectorSchemaRoot batch : big) {
        assertTrue(batch.getRowCount() <= BATCH_ROWS_MAX);
        rows += batch.getRowCount();
        batches++;
      }
      assertEquals(0, client.allocatedBytes());
    }
    assertEquals(Long.parseLong(Servers.said("big.rows")), rows);
    assertTrue(batches > rows / BATCH_ROWS_MAX, "batches " + batches);
  }

  @Test
  void aSlowReaderHoldsAFewBatchesAndNoMore() throws InterruptedException {
    try (FlightDataClient client = Servers.client();
        BatchStream rows = client.stream("slow_rows", Map.of())) {
      long most = 0;
      for (int batch = 0; batch < 20; batch++) {
        assertTrue(rows.next().getRowCount() <= BATCH_ROWS_MAX);
        Thread.sleep(20);
        most = Math.max(most, client.allocatedBytes());
      }
      // Three columns of 4 bytes, and five batches that wait beside the one that is read.
      assertTrue(most < 8L * BATCH_ROWS_MAX * 12 * 2, "bytes " + most);
    }
  }

  @Test
  void leavingALoopCancelsTheQueryAndFreesAll() throws InterruptedException {
    try (FlightDataClient client = Servers.scripted()) {
      try (BatchStream rows = client.stream("silent", Map.of())) {
        for (VectorSchemaRoot batch : rows) {
          assertEquals(List.of(1L), column(batch, "n"));
          break;
        }
      }
      assertEquals(0, client.allocatedBytes());
      Servers.until(() -> Servers.told("heard", "silent").equals("true"));
    }
  }

  @Test
  void anErrorOfTheConsumerFreesAll() {
    try (FlightDataClient client = Servers.client()) {
      assertThrows(
          ArithmeticException.class,
          () -> {
            try (BatchStream rows = client.stream("slow_rows", Map.of())) {
              rows.next();
              throw new ArithmeticException("of the consumer");
            }
          });
      assertEquals(0, client.allocatedBytes());
    }
  }

  @Test
  void aClosedStreamNeverLooksComplete() {
    try (FlightDataClient client = Servers.client()) {
      BatchStream rows = client.stream("slow_rows", Map.of());
      rows.next();
      rows.close();
      rows.close();
      assertThrows(IllegalStateException.class, rows::hasNext);
      assertThrows(IllegalStateException.class, rows::next);
      assertEquals(0, client.allocatedBytes());
    }
  }

  @Test
  void aStreamThatNobodyReadsIsClosedWithoutAQuery() {
    try (FlightDataClient client = Servers.scripted()) {
      client.stream("unread", Map.of()).close();
      assertEquals("[\"info\"]", Servers.told("calls", "unread"));
    }
  }

  @Test
  void closingTheClientClosesItsStreams() {
    FlightDataClient client = Servers.client();
    BatchStream one = client.stream("slow_rows", Map.of());
    BatchStream two = client.stream("daily_prices", JANUARY);
    assertTrue(one.next().getRowCount() > 0);
    assertTrue(two.hasNext());
    // Throws where a byte is left.
    client.close();
    assertThrows(IllegalStateException.class, one::next);
  }

  @Test
  void memoryOfOnesOwnIsGivenBack() {
    try (RootAllocator allocator = new RootAllocator();
        FlightDataClient client = FlightDataClient.builder(Servers.said("url")).allocator(allocator).connect();
        BatchStream rows = client.stream("slow_rows", Map.of())) {
      rows.next();
      assertTrue(allocator.getAllocatedMemory() > 0);
      rows.close();
      assertEquals(0, allocator.getAllocatedMemory());
    }
  }

  @Test
  void memoryThatIsTooSmallIsSaidAndFreed() {
    try (RootAllocator small = new RootAllocator(100_000);
        FlightDataClient client = FlightDataClient.builder(Servers.said("url")).allocator(small).connect()) {
      try (BatchStream rows = client.stream("big", Map.of())) {
        Unavailable error = assertThrows(Unavailable.class, () -> rows.forEachRemaining(batch -> {}));
        assertEquals("out-of-memory", error.code());
      }
      assertEquals(0, small.getAllocatedMemory());
    }
  }

  @Test
  void manyThreadsShareAClient() {
    try (FlightDataClient client = Servers.client()) {
      List<CompletableFuture<Integer>> counts = new ArrayList<>();
      for (int i = 0; i < 8; i++) {
        counts.add(
            CompletableFuture.supplyAsync(
                () -> {
                  try (BatchStream rows = client.stream("daily_prices", JANUARY)) {
                    int count = 0;
                    for (VectorSchemaRoot batch : rows) {
                      count += batch.getRowCount();
                    }
                    return count;
                  }
                }));
      }
      assertEquals(List.of(19), counts.stream().map(CompletableFuture::join).distinct().toList());
      assertEquals(0, client.allocatedBytes());
    }
  }

  @Test
  void anErrorInTheMiddleFreesAllAndIsSaidAgain() {
    try (FlightDataClient client = Servers.client();
        BatchStream rows = client.stream("too_many_rows", Map.of())) {
      InvalidRequest error = assertThrows(InvalidRequest.class, () -> rows.forEachRemaining(batch -> {}));
      assertEquals("row-limit", error.code());
      assertEquals(error, assertThrows(InvalidRequest.class, rows::hasNext));
      assertEquals(0, client.allocatedBytes());
    }
  }

  private static List<Object> everyColumn(int number) {
    try (FlightDataClient client = Servers.client();
        BatchStream rows = client.stream("every_column", Map.of())) {
      VectorSchemaRoot batch = rows.next();
      assertEquals(3, batch.getRowCount());
      List<Object> found = row(batch, number - 1);
      assertFalse(rows.hasNext());
      return found;
    }
  }

  private static List<Object> row(VectorSchemaRoot batch, int number) {
    List<Object> found = new ArrayList<>();
    for (FieldVector vector : batch.getFieldVectors()) {
      found.add(vector.getObject(number));
    }
    return found;
  }

  private static long micros(String instant) {
    // Not ChronoUnit.MICROS.between, which counts nanoseconds on the way and has none for the year 9999.
    Instant found = Instant.parse(instant);
    return found.getEpochSecond() * 1_000_000 + found.getNano() / 1_000;
  }

  private static List<Object> column(VectorSchemaRoot batch, String name) {
    List<Object> found = new ArrayList<>();
    for (int row = 0; row < batch.getRowCount(); row++) {
      found.add(batch.getVector(name).getObject(row));
    }
    return found;
  }
}

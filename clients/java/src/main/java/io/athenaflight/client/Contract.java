package io.athenaflight.client;

import com.fasterxml.jackson.annotation.JsonProperty;
import java.util.List;
import java.util.Map;

/** What a dataset takes and gives, as the {@code describe} action says it. What is not declared is null. */
public record Contract(
    String dataset,
    int version,
    String title,
    String doc,
    String owner,
    List<String> tags,
    List<String> key,
    List<String> sorted,
    List<Parameter> params,
    Map<String, String> rules,
    List<Column> columns,
    Map<String, Object> limits,
    String deprecated) {

  /**
   * One parameter. Values are JSON's: dates and decimals are text.
   *
   * @param type the contract's word, as {@code list<int32>}
   * @param defaultValue what an absent parameter means; null for one that may be left out
   */
  public record Parameter(
      String name,
      String type,
      boolean required,
      @JsonProperty("default") Object defaultValue,
      Object min,
      Object max,
      @JsonProperty("min_items") Integer minItems,
      @JsonProperty("max_items") Integer maxItems,
      @JsonProperty("max_length") Integer maxLength,
      List<Object> choices,
      String pattern,
      String unit,
      Object example,
      String doc) {}

  /** One column of the result. */
  public record Column(String name, String type, @JsonProperty("null") boolean nullable, String unit, String doc) {}
}

package org.openapitools.jackson.nullable;

import com.fasterxml.jackson.annotation.JsonCreator;

/** A member of a request: absent, null or a value. Stands in for jackson-databind-nullable. */
public record JsonNullable<T>(boolean isPresent, T value) {
    public static <T> JsonNullable<T> undefined() {
        return new JsonNullable<>(false, null);
    }

    @JsonCreator(mode = JsonCreator.Mode.DELEGATING)
    public static <T> JsonNullable<T> of(T value) {
        return new JsonNullable<>(true, value);
    }

    public T get() {
        return value;
    }

    public T orElse(T other) {
        return isPresent ? value : other;
    }
}

package org.apache.http.entity.mime;

/** The client imports it for uploads, of which this API has none. */
public class MultipartEntityBuilder {
}

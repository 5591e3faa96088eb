-- Refuses a JSON body with a field that the API does not know, or with the same field twice.
--
-- The transcoder drops both silently, and a misspelt field would then mean its default; and it takes for JSON what is
-- none (single quotes, commas at the end). ROUTE, METHODS and MESSAGES are put before this text by strict_json.py, from
-- the descriptor set that the transcoder reads. Values are the transcoder's to judge.

local MAX_DEPTH = 32
local QUOTE, COMMA, OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT = 34, 44, 91, 93, 123, 125

-- Ends the walk: with the path of a field that is unknown or there twice, or without one at what is no JSON.
local function stop(field)
  error({field = field}, 0)
end

local function next_token(text, at)
  return text:find("[^ \t\r\n]", at) or stop()
end

-- The first backslash of the text that has not been walked, beyond its end when there is none.
local backslash

-- Returns where the string that begins at `at` ends, and whether it holds an escape. Quotes and backslashes are looked
-- for by themselves, and no place twice for either: frames are hundreds of kilobytes; a pattern is tried at each byte.
local function end_of_string(text, at)
  local escaped = false
  local from, quote = at + 1, at
  while true do
    if quote < from then
      quote = text:find('"', from, true) or stop()
    end
    if backslash < from then
      backslash = text:find("\\", from, true) or #text + 1
    end
    if quote < backslash then
      return quote, escaped
    end
    escaped = true
    from = backslash + 2
  end
end

local walk

local function walk_list(text, at, message, path, depth)
  at = next_token(text, at + 1)
  if text:byte(at) == CLOSE_LIST then
    return at
  end
  while true do
    -- No list of the API holds lists; the transcoder would pour one into the other.
    if text:byte(at) == OPEN_LIST then
      stop()
    end
    at = next_token(text, walk(text, at, message, path, depth) + 1)
    if text:byte(at) == CLOSE_LIST then
      return at
    elseif text:byte(at) ~= COMMA then
      stop()
    end
    at = next_token(text, at + 1)
  end
end

local function walk_object(text, at, message, path, depth)
  local fields = MESSAGES[message]
  local seen = {}
  at = next_token(text, at + 1)
  if text:byte(at) == CLOSE_OBJECT then
    return at
  end
  while true do
    if text:byte(at) ~= QUOTE then
      stop()
    end
    local key_end, escaped = end_of_string(text, at)
    local key = text:sub(at + 1, key_end - 1)
    local here = path == "" and key or path .. "." .. key
    -- Without `fields` it is an object where a scalar belongs. A name needs no escapes.
    if escaped or (fields and not fields[key]) then
      stop(here)
    end
    -- A field may be spelt in two ways; it counts as one.
    local name = fields and fields[key].name or key
    if seen[name] then
      stop(here)
    end
    seen[name] = true
    at = next_token(text, key_end + 1)
    if text:sub(at, at) ~= ":" then
      stop()
    end
    at = next_token(text, at + 1)
    at = next_token(text, walk(text, at, fields and fields[key].message or "", here, depth) + 1)
    if text:byte(at) == CLOSE_OBJECT then
      return at
    elseif text:byte(at) ~= COMMA then
      stop()
    end
    at = next_token(text, at + 1)
  end
end

-- Walks the value that begins at `at`; returns where it ends.
walk = function(text, at, message, path, depth)
  if depth > MAX_DEPTH then
    stop()
  end
  local first = text:byte(at)
  if first == OPEN_OBJECT then
    return walk_object(text, at, message, path, depth + 1)
  elseif first == OPEN_LIST then
    return walk_list(text, at, message, path, depth + 1)
  elseif first == QUOTE then
    return (end_of_string(text, at))
  end
  local found, last = text:find("^[%w.+-]+", at)
  return found and last or stop()
end

-- Returns the message that a call's body must be, "" when it has none, nil when the API has no such call.
local function message_of(method, path)
  for _, known in ipairs(METHODS) do
    if known.method == method and path:find(known.path) then
      return known.message
    end
  end
end

function envoy_on_request(handle)
  -- What another route takes is no JSON of the API, or is answered there (405).
  if handle:streamInfo():routeName() ~= ROUTE then
    return
  end
  local headers = handle:headers()
  local path = headers:get(":path"):gsub("%?.*", "")
  local message = message_of(headers:get(":method"), path)
  if not message then
    -- The transcoder knows a path in more spellings than the API has (/v1/documents/:verify, a slash at the end); no body
    -- is walked of a call that is not known here, so none gets further.
    handle:respond({[":status"] = "404"}, "")
    return
  end
  local body = handle:body()
  if not body or body:length() == 0 then
    return
  end
  -- The transcoder would read it: as parameters, and those that it does not know it would drop.
  if message == "" then
    handle:respond({[":status"] = "400"}, "")
    return
  end
  local text = body:getBytes(0, body:length())
  backslash = 0
  local walked, problem = pcall(function()
    local last = walk(text, next_token(text, 1), message, "", 0)
    if text:find("[^ \t\r\n]", last + 1) then
      stop()
    end
  end)
  if walked then
    return
  end
  -- An error of this script itself is no table, and is refused like any other body that was not walked to its end.
  local field = type(problem) == "table" and problem.field
  if field then
    -- The answer's text is made in local_replies.py, which can read headers.
    -- Taken anew: waiting for the body has ended the life of `headers`.
    handle:headers():replace("x-finid-unknown-field", field:find("^[%w_.]+$") and #field <= 120 and field or "?")
  end
  handle:respond({[":status"] = "400"}, "")
end

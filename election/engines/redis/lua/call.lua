-- How every script calls the server. Somebody else may have written a key of the pool, of another type: as a row it has
-- no fields but this one, and any other use of it raises an error with its name.
local wrong = 'wrong_type'

local function call(command, ...)
  local answer = redis.pcall(command, ...)
  if type(answer) ~= 'table' or not answer.err then
    return answer
  elseif not string.find(answer.err, 'WRONGTYPE', 1, true) then
    return redis.call(command, ...)  -- fails again, with its own words
  elseif command == 'HGET' then
    return false
  elseif command == 'HGETALL' then
    return {wrong, (...)}
  elseif command == 'HMGET' then
    local none = {}
    for place = 1, select('#', ...) - 1 do
      none[place] = false
    end
    return none
  end
  error('WRONGTYPE ' .. (...), 0)
end

-- For what nothing depends on: counters, logs, indexes of the history. A key of another type stays as it is.
local function try(command, ...)
  local answer = redis.pcall(command, ...)
  if type(answer) == 'table' and answer.err and not string.find(answer.err, 'WRONGTYPE', 1, true) then
    return redis.call(command, ...)
  end
  return answer
end

local function is_wrong(key, kind)
  local found = redis.call('TYPE', key).ok
  return found ~= kind and found ~= 'none'
end

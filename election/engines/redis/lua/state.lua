-- All that a leader needs at the start of its term, as of one moment.
-- ARGV: prefix
local p = ARGV[1]
local function each(keys, prefix)
  local found = {}
  for _, key in ipairs(keys) do
    local fields = redis.call('HGETALL', prefix .. key)
    table.insert(fields, 'id')
    table.insert(fields, key)
    table.insert(found, fields)
  end
  return found
end
return {
  redis.call('GET', p .. 'version') or '0',
  each(redis.call('SMEMBERS', p .. 'jobs'), p .. 'job:'),
  each(redis.call('ZRANGE', p .. 'requests', 0, -1), p .. 'request:'),
  each(redis.call('ZRANGE', p .. 'open', 0, -1), p .. 'run:')
}

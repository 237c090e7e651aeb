-- Writes the end of the term to the record, then deletes the lease, then wakes the others.
-- ARGV: prefix, lease (id:number), the record of the end
local p = ARGV[1]
local told = redis.call('GET', p .. 'record')
if told and not string.find(told, '"' .. ARGV[2] .. '"', 1, true) then
  return 'another leads'
end
redis.call('SET', p .. 'record', ARGV[3])
if redis.call('GET', p .. 'lease') == ARGV[2] then
  redis.call('DEL', p .. 'lease')
end
redis.call('PUBLISH', p .. 'news', ARGV[3])
return 'released'
